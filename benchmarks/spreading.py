"""Sharing work out among tasks, as the requests of a server share its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["spread"]

T = TypeVar("T")


async def spread(items: Iterable[T], do: Callable[[T], Awaitable[object]], tasks: int) -> None:
    """Do every item once, by so many tasks that take them from one queue."""
    queue = iter(items)

    async def work() -> None:
        for item in queue:
            await do(item)

    if tasks == 1:
        await work()
    else:
        await asyncio.gather(*(work() for _ in range(tasks)))
