"""Being told that an event loop is about to end, while it can still run our clean-up.

``asyncio.run``, ``Runner``, uvloop and anyio all call ``loop.shutdown_asyncgens()`` before they
close their loop, and that finalises async generators *inside* the loop. So a generator suspended
at its ``yield`` is a clean-up hook, made of public behaviour only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

__all__ = ["EndGuard"]


class EndGuard:
    """A guard that calls ``clean_up`` on the running loop once, when that loop shuts down.

    Lives until then or until :meth:`dismiss`. Hold on to it: a guard that is garbage-collected
    fires too early. Make it while the loop runs, and dismiss it there.
    """

    def __init__(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        self._clean_up: Callable[[], Awaitable[None]] | None = clean_up
        self._loop = asyncio.get_running_loop()
        self._suspended = self._wait_for_the_end()
        _step(self._suspended.__anext__())

    def dismiss(self) -> None:
        """Forget the clean-up, which happens otherwise. Does nothing if it comes too late."""
        if self._clean_up is not None and not self._loop.is_closed():
            self._clean_up = None
            _step(self._suspended.aclose())

    def disarm(self) -> None:
        """Do as :meth:`dismiss` does, from outside of the loop: the generator stays as it is."""
        self._clean_up = None

    async def _wait_for_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            clean_up, self._clean_up = self._clean_up, None
            if clean_up is not None:
                await clean_up()


def _step(awaitable: Awaitable[None]) -> None:
    # Up to its `yield`, and from there to its end once dismissed, the generator awaits nothing,
    # so it can be moved without being awaited itself.
    with suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().send(None)
