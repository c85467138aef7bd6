"""A task that keeps an async context manager open, for synchronous code."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from asgi_dbconn.errors import LoopGoneError
from asgi_dbconn.loops.managed_loop import ManagedLoop
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.loops.tasks import wait_entered

__all__ = ["ContextTask"]


class ContextTask:
    """An async context manager that one task enters and leaves.

    Cancel scopes and context variables need that. In between the task waits on its loop, whether
    the loop runs or not. It leaves the manager when it is told to, or when its loop shuts down
    before. If the loop is closed under the task, the manager is left on another loop.
    """

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._entered = AsyncExitStack()
        self._leave: asyncio.Event
        self._task: asyncio.Task[None] | None = None

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Enter the manager on ``loop`` by ``run_sync``.

        Raises what entering it raises. Then nothing is held.
        """
        run_sync(self._begin(), loop=loop)

    def leave(self) -> None:
        """Leave the manager in its own task. Raises what leaving it raises."""
        task, self._task = self._task, None
        if task is None or (task.done() and not task.cancelled() and task.exception() is None):
            return
        try:
            run_sync(self._finish(task), loop=task.get_loop())
        except LoopGoneError:
            if not task.done():  # else its loop has shut down, and the task with it
                self._leave_elsewhere(task)

    def _leave_elsewhere(self, task: asyncio.Task[None]) -> None:
        # The loop was closed under its task, which takes no further step. The manager is left on a
        # loop made for it: a registry releases its reference there.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        managed = ManagedLoop()
        try:
            run_sync(self._entered.pop_all().aclose(), loop=managed.loop)
        finally:
            managed.close()

    async def _begin(self) -> None:
        self._leave = asyncio.Event()
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._hold(entered), name="context manager")
        await wait_entered(task, entered)
        self._task = task

    async def _hold(self, entered: asyncio.Future[None]) -> None:
        async with self._entered:
            await self._entered.enter_async_context(self._manager)
            entered.set_result(None)
            await self._leave.wait()

    async def _finish(self, task: asyncio.Task[None]) -> None:
        self._leave.set()
        await task
