"""The acquire queue in front of a pool: first come, first served, with a deadline.

SQLAlchemy's own waiters starve after a failed connect, and its ``pool_timeout`` bounds the queue
only. The gate has exactly as many permits as there are connections, so that behind it the pool
never has to wait, and one deadline covers queueing and connecting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from asgi_dbconn.errors import PoolClosed, PoolOverloaded, PoolTimeout
from asgi_dbconn.pools.leak_detection import LeakDetector
from asgi_dbconn.pools.observer import Events, Observers

__all__ = ["Gate", "Permit", "permit_of_acquire"]

_SHOWN_HOLDERS: Final = 3


@dataclass(slots=True, eq=False)
class Permit:
    """The right to one connection, from the acquire to the check-in."""

    taken_at: float
    """Seconds on the loop's clock."""
    deadline: float
    """The moment by which the acquire that got this permit must have succeeded."""
    holder: str
    """The name of the task that asked."""
    connection: Any = None
    """The driver's connection that the permit was used for; None while it is being opened."""
    cleanup: asyncio.Task[Any] | None = None
    """The task that goes on after the acquire failed: an attempt to connect, or a close.

    The permit is held until it has ended.
    """
    is_out: bool = False
    """True if the acquire has succeeded."""
    alarm: LeakDetector | None = None
    """The alarm for a connection that is not released, if ``leak_after`` is set."""

    def __str__(self) -> str:
        line = "" if self.alarm is None else self.alarm.call_site
        return f"{self.holder} at {line}" if line else self.holder


permit_of_acquire: ContextVar[Permit | None] = ContextVar("permit_of_acquire", default=None)
"""The permit of the acquire under way; None outside of one."""


class Gate:
    """A gate that lives as long as its pool, on one loop.

    Only :meth:`release` may be called from elsewhere.

    Invariant: ``len(holders) <= size``, and no task waits while a permit is free.
    """

    def __init__(
        self,
        name: str,
        size: int,
        acquire_timeout: float,
        max_waiting: int | None = None,
        events: Events | None = None,
    ) -> None:
        self.name = name
        self.size = size
        self.max_waiting = max_waiting
        self.acquire_timeout = acquire_timeout
        self.is_closed = False
        self.events = Events(name, Observers()) if events is None else events
        self._loop = asyncio.get_running_loop()
        self._holders: dict[Permit, None] = {}  # in the order of their acquires: oldest first
        self._waiters: deque[asyncio.Future[Permit]] = deque()
        self._emptied: asyncio.Future[None] | None = None

    @property
    def in_use(self) -> int:
        return len(self._holders)

    @property
    def queue_length(self) -> int:
        return len(self._waiters)

    def holders(self) -> Iterable[Permit]:
        """Return the permits of those that hold a connection, the oldest first."""
        return tuple(self._holders)

    def acquire_nowait(self) -> Permit | None:
        """Take a free permit, or None if this acquire has to queue.

        Raises PoolClosed once the gate is closed.
        """
        if self.is_closed:
            raise self._make_closed_error()
        if len(self._holders) >= self.size or self._waiters:
            return None
        now = self._loop.time()
        permit = Permit(now, now + self.acquire_timeout, _current_task_name())
        self._holders[permit] = None
        return permit

    async def acquire(self) -> Permit:
        """Queue for a permit; raise PoolTimeout after ``acquire_timeout`` seconds.

        Raises PoolOverloaded immediately if ``max_waiting`` others are in the queue.
        """
        if self.max_waiting is not None and len(self._waiters) >= self.max_waiting:
            self.events.note_refused()
            raise self._overload_error()
        started = self._loop.time()
        deadline = started + self.acquire_timeout
        waiter: asyncio.Future[Permit] = self._loop.create_future()
        self._waiters.append(waiter)
        timer = self._loop.call_at(deadline, self._expire, waiter, started)
        try:
            permit = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Granted and cancelled in one iteration of the loop: pass it on, or it is lost.
                self._return(waiter.result())
            else:
                self._forget(waiter)
            raise
        finally:
            timer.cancel()
            self.events.note_wait(self._loop.time() - started)
        permit.deadline = deadline
        permit.holder = _current_task_name()
        return permit

    def confirm(self, permit: Permit) -> None:
        """Note that the acquire has succeeded, and its holder has the connection."""
        permit.is_out = True
        self.events.counters.acquired += 1
        if self.events.are_observed:  # measured for observers only, on the path of every query
            self.events.note_acquired(self._loop.time() - permit.deadline + self.acquire_timeout)

    def release(self, permit: Permit) -> None:
        """Release a permit. For any thread: the garbage collector calls this from any of them.

        A second release is harmless.
        """
        if asyncio._get_running_loop() is self._loop:
            self._return(permit)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._return, permit)

    def close(self) -> None:
        """Refuse new acquires and wake every waiter with PoolClosed; holders keep theirs."""
        self.is_closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(self._make_closed_error())

    async def wait_until_unused(self, timeout: float) -> bool:
        """Return whether every permit came back within ``timeout`` seconds. For a closed gate."""
        if not self._holders:
            return True
        self._emptied = self._loop.create_future()
        done, _ = await asyncio.wait({self._emptied}, timeout=timeout)
        return bool(done)

    def _grant(self) -> Permit:
        # To the next waiter, which fills in the rest.
        permit = Permit(self._loop.time(), 0.0, "")
        self._holders[permit] = None
        return permit

    def _return(self, permit: Permit) -> None:
        if self._holders.pop(permit, permit) is permit:
            return  # already released
        if permit.is_out:
            self._note_release(permit)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(self._grant())
                break
        if not self._holders and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _note_release(self, permit: Permit) -> None:
        """Cancel the alarm of a leak, and report how long the connection was held."""
        if permit.alarm is not None:
            permit.alarm.cancel()
        if self.events.are_observed:
            self.events.note_released(self._loop.time() - permit.taken_at)

    def _forget(self, waiter: asyncio.Future[Permit]) -> None:
        # The expired and the cancelled leave the queue immediately, so that its length is right.
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _expire(self, waiter: asyncio.Future[Permit], started: float) -> None:
        self._forget(waiter)
        if not waiter.done():
            waited = self._loop.time() - started
            waiter.set_exception(self._timeout_error(waited))
            self.events.note_timeout(waited)

    def _make_closed_error(self) -> PoolClosed:
        return PoolClosed(
            f"Database {self.name!r} is disconnecting and takes no new work. "
            "Connect it again, or finish the work before the application shuts down."
        )

    def _overload_error(self) -> PoolOverloaded:
        return PoolOverloaded(
            f"Database {self.name!r}: {self.queue_length} acquires wait already (max_waiting). "
            f"All {self.size} connections (pool_size) are in use. Try again later, or raise either."
        )

    def _timeout_error(self, waited: float) -> PoolTimeout:
        now = self._loop.time()
        oldest = ", ".join(
            f"{permit} for {now - permit.taken_at:.1f} s"
            for permit in list(self._holders)[:_SHOWN_HOLDERS]
        )
        return PoolTimeout(
            f"Database {self.name!r}: no connection came free within {waited:.2f} s "
            f"(acquire_timeout). All {self.size} (pool_size) are in use, {self.queue_length} more "
            f"acquires wait; held longest by {oldest}. Release connections sooner, "
            "or raise pool_size."
        )


def _current_task_name() -> str:
    task = asyncio.current_task()
    return task.get_name() if task is not None else "no task"
