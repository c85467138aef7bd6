"""Tasks that another task waits for, and that have to finish although that one is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["finish_despite_cancellation", "retrieve_error", "wait_entered"]

T = TypeVar("T")
Task = asyncio.Task[Any]


async def finish_despite_cancellation(
    work: Coroutine[Any, Any, T], begin: Callable[[Task], object] | None = None
) -> tuple[T, asyncio.CancelledError | None]:
    """Await ``work`` in a task of its own; return its result, and a cancellation meanwhile.

    ``work`` has to limit its time itself. ``begin`` is called with the task before it runs.
    Raises what ``work`` raises.
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


async def wait_entered(task: Task, entered: asyncio.Future[T]) -> T:
    """Return the result of ``entered``, which ``task`` sets when it has entered a context.

    Raises what ends ``task`` before. Cancelled, it cancels ``task`` and waits for its end.
    """
    either: set[asyncio.Future[Any]] = {task, entered}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if not entered.done():
        await task  # raises
    return entered.result()


def retrieve_error(task: Task) -> None:
    """Take the error out of ``task``, which has ended: a callback for ``add_done_callback``.

    Each task that waits gets the error all the same. Where none waits any more, asyncio would log
    that the exception was never retrieved.
    """
    if not task.cancelled():
        task.exception()
