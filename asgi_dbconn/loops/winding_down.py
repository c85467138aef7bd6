"""What an event loop of ours still does before it is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from asgi_dbconn.loops import limits

__all__ = ["wind_down"]

_log = logging.getLogger("asgi_dbconn")


async def wind_down(clean_ups: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run the clean-ups, cancel every task, end the async generators and the default executor.

    Each step gets a bounded time, so that a loop ends whatever its tasks think of it; what fails
    is logged, and the next step is taken.
    """
    loop = asyncio.get_running_loop()
    for clean_up in clean_ups:
        await _step(_awaited(clean_up), "a clean-up")
    await _cancel_tasks(loop)
    await _step(loop.shutdown_asyncgens(), "an async generator")
    await _step(loop.shutdown_default_executor(), "the default executor")


async def _awaited(clean_up: Callable[[], Awaitable[object]]) -> None:
    await clean_up()


async def _step(work: Any, what: str) -> None:
    task = asyncio.ensure_future(work)
    _, unfinished = await asyncio.wait({task}, timeout=limits.GRACE)
    if unfinished:
        task.cancel()
        _log.warning("an event loop ended without %s, which took too long", what)
    elif not task.cancelled() and task.exception() is not None:
        _log.warning("an event loop ended, and %s failed", what, exc_info=task.exception())


async def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    done, _ = await asyncio.wait(tasks, timeout=limits.GRACE)
    for task in done:
        if not task.cancelled() and task.exception() is not None:
            message = "unhandled exception while a loop was ending"
            loop.call_exception_handler(
                {"message": message, "exception": task.exception(), "task": task}
            )
