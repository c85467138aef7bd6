"""The lock of one driver connection: one statement at a time, and idle when it is free.

SQLAlchemy's adapted connections hold a mutex while a statement is under way. This lock stands in
its place. It adds three things: it is released only when the driver is idle again, it can refuse
newcomers, and it knows whether somebody was given the driver's own connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

__all__ = ["CANCEL_LIMIT", "StatementLock", "driver_of", "lock_of"]

CANCEL_LIMIT: Final = 2.0
"""Seconds that the server has to answer for a statement that was cancelled."""
_TIMEOUT_LIMIT: Final = 0.1
"""The same for a statement that ran into its ``query_timeout``: its caller has waited already."""

Settle = Callable[[float], Awaitable[bool]]
"""Wait for so many seconds until the driver is idle again; return whether it is."""


class StatementLock:
    """Belongs to one driver connection and its loop. Not reentrant.

    The holder is a task. A statement that is interrupted keeps the lock until the driver is idle,
    where ``keeps_connection`` says that the connection is worth waiting for.
    """

    __slots__ = (
        "_holder",
        "_settle",
        "_waiters",
        "admit",
        "is_begin_due",
        "is_driver_exposed",
        "is_lost",
        "keeps_connection",
    )

    def __init__(self, settle: Settle, *, keeps_connection: bool = False) -> None:
        self._holder: asyncio.Task[Any] | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._settle = settle
        self.keeps_connection = keeps_connection
        """Whether an interrupted statement leaves the connection in use."""
        self.admit: Callable[[], None] | None = None
        """Called by each new holder; raises where the block of its statement has ended."""
        self.is_lost = False
        """Whether an interrupted statement did not end in time: the connection is of no use."""
        self.is_begin_due = False
        """Whether SQLAlchemy has begun a transaction whose BEGIN could not be sent."""
        self.is_driver_exposed = False
        """Whether the driver's own connection was handed out since the last check-out."""

    def locked(self) -> bool:
        """Return whether a statement is under way."""
        return self._holder is not None

    @property
    def holder(self) -> asyncio.Task[Any] | None:
        """The task whose statement is under way."""
        return self._holder

    async def __aenter__(self) -> None:
        if self._holder is None and not self._waiters:
            self._holder = asyncio.current_task()
        else:
            await self._wait()
        if self.admit is not None:
            try:
                self.admit()
            except BaseException:
                self.release()
                raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self.keeps_connection:
            if isinstance(error, asyncio.CancelledError):
                await self._wait_until_idle(CANCEL_LIMIT)
            elif isinstance(error, TimeoutError):
                await self._wait_until_idle(_TIMEOUT_LIMIT)
            elif not isinstance(error, Exception):
                self.is_lost = True  # the program is about to end: nothing is awaited any more
        self.release()

    async def wait_until_free(self) -> None:
        """Wait for those who came before, and take nothing."""
        if self._holder is not None or self._waiters:
            await self._wait()
            self.release()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.release()  # granted and cancelled in the same iteration of the loop
            else:
                self._waiters.remove(waiter)
            raise
        self._holder = asyncio.current_task()

    def release(self) -> None:
        """Let the next one in."""
        self._holder = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                # Not free in between: somebody else would come first.
                self._holder = _GRANTED
                return

    async def _wait_until_idle(self, limit: float) -> None:
        try:
            self.is_lost = not await self._settle(limit)
        except BaseException:
            # Cancelled again: the connection is given up without waiting for it.
            self.is_lost = True
            self.release()
            raise


_GRANTED: Final[Any] = object()


def driver_of(connection: Any) -> Any:
    """Return the driver's connection below SQLAlchemy's adapted one, without exposing it."""
    return connection._connection


def lock_of(connection: Any) -> StatementLock:
    """Return the lock of SQLAlchemy's adapted connection."""
    lock: StatementLock = connection._execute_mutex
    return lock
