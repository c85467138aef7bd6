"""An async context manager that may be entered and left in different tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

__all__ = ["SplitContext"]


class SplitContext(AbstractAsyncContextManager[None]):
    """A manager entered once, by ``enter``, which returns how to leave it.

    It is no generator: a loop that ends closes all suspended generators at the same time, and those
    inside each other fail then.
    """

    def __init__(self, enter: Callable[[], Awaitable[Callable[[], Awaitable[object]]]]) -> None:
        self._enter = enter
        self._leave: Callable[[], Awaitable[object]]

    async def __aenter__(self) -> None:
        self._leave = await self._enter()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._leave()
