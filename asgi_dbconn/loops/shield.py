"""A shield for work that has to finish although the task that awaits it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["finish_despite_cancellation"]

T = TypeVar("T")
Task = asyncio.Task[Any]


async def finish_despite_cancellation(
    work: Coroutine[Any, Any, T], begin: Callable[[Task], object] | None = None
) -> tuple[T, asyncio.CancelledError | None]:
    """Await ``work`` in a task of its own. Return its result, and a cancellation that came
    meanwhile.

    ``work`` has to limit its time itself. ``begin`` is called with the task before it runs. Raises
    what ``work`` raises.
    """
    task = asyncio.ensure_future(work)
    if begin is not None:
        begin(task)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    return task.result(), cancelled
