"""``max_connections``: the connections of a database over all loops of the process.

Each loop has a pool of its own, so their sizes add up. A task that finds no free slot waits in a
queue, first come, first served, and meanwhile the pools are asked to close an idle connection. If
all are in use, a connection that comes back to a busy loop is closed for the queue only once a task
has waited for a while: moving slots between loops at every check-in would cost more than it brings.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from asgi_dbconn.errors import PoolTimeout

__all__ = ["Budget", "Slot"]

_RETURN_WAIT: Final = 0.25
"""Seconds that a task waits before a loop with waiters of its own closes a connection for it."""


class Slot:
    """The right to one physical connection, from before it is opened until it has ended."""

    def __init__(self, budget: Budget) -> None:
        self._budget: Budget | None = budget
        self.is_used = False
        """True if a connection was begun with it, whose end releases it."""

    def release(self, *_: object) -> None:
        """Release the slot; any thread may, and more than once."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._release()


class _Waiter:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.since = time.monotonic()  # compared in other threads, so not a loop's clock
        self.granted: asyncio.Future[Slot] = loop.create_future()

    def grant(self, slot: Slot) -> None:
        if self.granted.done():  # it went away at this very moment
            slot.release()
        else:
            self.granted.set_result(slot)


class Budget:
    """The budget of one database and its pools. Thread-safe; no lock is held while waiting."""

    def __init__(self, limit: int | None) -> None:
        self._limit = math.inf if limit is None else limit
        self._askers: list[Callable[[], None]] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Forget, in a child, what is open: it belongs to the parent."""
        self._lock = threading.Lock()
        self._taken = 0
        self._leaving = 0
        self._waiters: deque[_Waiter] = deque()
        self._askers.clear()

    def join(self, asker: Callable[[], None]) -> Callable[[], None]:
        """Call ``ask``, from any thread, when a task waits for a slot; return how to leave."""
        self._askers.append(asker)
        return lambda: self._askers.remove(asker) if asker in self._askers else None

    async def acquire(self, database: str, deadline: float) -> Slot:
        """Acquire a slot; raise PoolTimeout when the running loop's clock shows ``deadline``."""
        with self._lock:
            if self._taken < self._limit and not self._waiters:
                self._taken += 1
                return Slot(self)
            waiter = _Waiter(asyncio.get_running_loop())
            self._waiters.append(waiter)
        for asker in tuple(self._askers):
            asker()
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter.granted
        except BaseException as error:
            self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                raise self._timeout_error(database, waiter) from None
            raise

    def should_close_one(self, *, from_busy_loop: bool) -> bool:
        """Return whether to close a connection now. On True the caller has to close one.

        ``from_busy_loop``: tasks on the same loop wait for it as well.
        """
        if not self._waiters:  # the ordinary case, without the lock
            return False
        with self._lock:
            if len(self._waiters) <= self._leaving:
                return False
            waiter = self._waiters[0]
            if from_busy_loop and time.monotonic() - waiter.since < _RETURN_WAIT:
                return False
            self._leaving += 1
            return True

    def _release(self) -> None:
        with self._lock:
            self._leaving = max(self._leaving - 1, 0)
            while self._waiters:
                waiter = self._waiters.popleft()
                # A loop that was closed in the meantime needs no slot.
                with suppress(RuntimeError):
                    waiter.loop.call_soon_threadsafe(waiter.grant, Slot(self))
                    return
            self._taken -= 1

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.granted.done() and not waiter.granted.cancelled():
            waiter.granted.result().release()  # granted and cancelled together

    def _timeout_error(self, database: str, waiter: _Waiter) -> PoolTimeout:
        waited = time.monotonic() - waiter.since
        return PoolTimeout(
            f"Database {database!r}: all {self._limit} connections that the process may have "
            f"(max_connections) are in use, and none came free within {waited:.2f} s "
            "(acquire_timeout). Use fewer event loops, or raise max_connections."
        )
