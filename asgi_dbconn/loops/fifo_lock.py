"""A lock that is handed on in the order in which it was asked for, and that knows its holder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["FifoLock"]

Task = asyncio.Task[Any]


class FifoLock:
    """A first-in-first-out lock of one event loop. Not reentrant.

    ``holder`` is the task that has it, or None. It is an attribute, so that a task that finds it
    None may take it without a call: ``lock.holder = task``.
    """

    __slots__ = ("_waiters", "holder")

    def __init__(self) -> None:
        self.holder: Task | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self, task: Task | None) -> None:
        """Take it for ``task``; wait for the holder and for those who came before."""
        if self.holder is not None:
            await self._wait()
        self.holder = _NOBODY if task is None else task

    def release(self) -> None:
        """Hand it to the next one."""
        self.holder = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                # Not free in between: somebody else would come first.
                self.holder = _NOBODY
                waiter.set_result(None)
                return

    async def wait_until_free(self) -> None:
        """Wait for the holder and for those who came before, and take nothing."""
        if self.holder is not None:
            await self._wait()
            self.release()

    def refuse_waiters(self, error: Callable[[], BaseException]) -> None:
        """Let every task that waits now raise an ``error``."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error())

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release()  # granted and cancelled in the same iteration of the loop
            raise


_NOBODY: Final[Any] = object()
"""The stand-in for a holder between two tasks, and for one that is no task."""
