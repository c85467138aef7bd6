"""Keeping an async context manager open for synchronous code."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from asgi_dbconn.errors import LoopGoneError
from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["Held"]

Loop = asyncio.AbstractEventLoop


class Held:
    """Entered and left in one task, as cancel scopes and context variables want it.

    That task waits on its loop in between, whether the loop runs or not. It leaves the manager
    when it is told to, or when its loop ends before.
    """

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._leave: asyncio.Event
        self._task: asyncio.Task[None] | None = None

    def enter(self, loop: Loop) -> None:
        """Enter the manager on ``loop``, as ``run_sync`` would run anything there.

        Raises what entering it raises, and then nothing is held.
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
            return  # its loop has ended, and with it the task, in good order

    async def _begin(self) -> None:
        self._leave = asyncio.Event()
        entered = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._hold(entered), name="holding a context manager open")
        try:
            await asyncio.wait({task, entered}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        if not entered.done():
            await task  # raises
        self._task = task

    async def _hold(self, entered: asyncio.Future[None]) -> None:
        async with self._manager:
            entered.set_result(None)
            await self._leave.wait()

    async def _finish(self, task: asyncio.Task[None]) -> None:
        self._leave.set()
        await task
