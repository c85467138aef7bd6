"""Tasks that take their first step while they are created, on a loop of ours.

Work that has been handed over is thus done, or on its way to the server, one turn of the loop
earlier. Another's loop may have ideas of its own about its tasks; those are left as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["create_task_at_once"]

T = TypeVar("T")


def create_task_at_once(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Create a task on a loop of ours, as ``asyncio.create_task`` does.

    For the loop's own thread and outside of any task. Returns after the first step, and perhaps
    when all is done.
    """
    loop = asyncio.get_running_loop()
    if _KNOWS_EAGER_TASKS:
        eager: Any = asyncio.Task
        task: asyncio.Task[T] = eager(work, loop=loop, eager_start=True)
        return task
    return _create_and_step(work, loop)


_KNOWS_EAGER_TASKS = hasattr(asyncio, "eager_task_factory")


def _create_and_step(
    work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
) -> asyncio.Task[T]:
    """Create a task and take its first step.

    Python 3.11 has no eager tasks. But a new task asks its loop to take its first step soon, and
    does nothing else with it; so we listen, and take that step.
    """
    first: list[tuple[Callable[[], object], Context]] = []

    def call_soon(step: Callable[[], object], *, context: Context) -> None:
        first.append((step, context))

    loop.call_soon = call_soon  # type: ignore[method-assign,assignment]
    try:
        task = asyncio.Task(work, loop=loop)
    finally:
        del loop.call_soon
    ((step, context),) = first
    context.run(step)
    return task
