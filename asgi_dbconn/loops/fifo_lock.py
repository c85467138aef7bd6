"""A first-in-first-out lock that knows its holder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["FifoLock"]

Task = asyncio.Task[Any]


class FifoLock:
    """A first-in-first-out lock of one event loop. Not reentrant.

    ``holder`` is the task that holds it, or None. It is an attribute, so that a task that finds
    None may acquire the lock without a call: ``lock.holder = task``.
    """

    __slots__ = ("_waiters", "holder")

    def __init__(self) -> None:
        self.holder: Task | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self, task: Task | None) -> None:
        """Acquire it for ``task``, after the holder and the tasks that wait already."""
        if self.holder is not None:
            await self._wait()
        self.holder = _NO_TASK if task is None else task

    def release(self) -> None:
        """Release it; the next waiting task acquires it."""
        self.holder = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                # Not free in between: another task would overtake this one.
                self.holder = _NO_TASK
                waiter.set_result(None)
                return

    async def wait_until_free(self) -> None:
        """Wait for the holder and the tasks that wait already, without acquiring it."""
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


_NO_TASK: Final[Any] = object()
"""The holder between two tasks, and the holder that is no task."""
