"""The last work of an event loop of ours before it is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from asgi_dbconn.loops import limits
from asgi_dbconn.loops.idle_loops import drive_to_the_end

__all__ = ["wind_down"]

_log = logging.getLogger("asgi_dbconn")


def wind_down(
    loop: asyncio.AbstractEventLoop, clean_ups: Iterable[Callable[[], Awaitable[object]]]
) -> None:
    """Run the clean-ups, cancel every task, end the async generators and the default executor.

    In the thread that calls, which is the one to run the idle ``loop``. Each step gets a bounded
    time, so that a loop ends whatever its tasks think of it; what fails is logged, and the next
    step is taken.
    """
    for clean_up in clean_ups:
        _step(loop, _awaited(clean_up), "a clean-up")
    _cancel_tasks(loop)
    _step(loop, loop.shutdown_asyncgens(), "an async generator")
    _step(loop, loop.shutdown_default_executor(), "the default executor")


async def _awaited(clean_up: Callable[[], Awaitable[object]]) -> None:
    await clean_up()


def _step(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], what: str) -> None:
    task = drive_to_the_end(loop, work, limits.GRACE)
    if not task.done():
        task.cancel()
        _log.warning("an event loop ended without %s, which took too long", what)
    elif not task.cancelled() and task.exception() is not None:
        _log.warning("an event loop ended, and %s failed", what, exc_info=task.exception())


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _step(loop, _all_done(tasks), "some of its tasks")
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            message = "unhandled exception while a loop was ending"
            loop.call_exception_handler(
                {"message": message, "exception": task.exception(), "task": task}
            )


async def _all_done(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)
