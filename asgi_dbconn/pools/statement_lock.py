"""The lock of one driver connection: one statement at a time, and idle when it is free.

SQLAlchemy's adapted connections hold a mutex while a statement is under way. This lock replaces
it. It adds three things: it is released only when the driver is idle again, it can refuse
newcomers, and it knows whether a user has got the driver's own connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.loops.fifo_lock import FifoLock
from asgi_dbconn.loops.tasks import finish_despite_cancellation

__all__ = ["CANCEL_LIMIT", "StatementLock", "Stop", "driver_of", "lock_of"]

CANCEL_LIMIT: Final = 2.0
"""Seconds that the server has to answer for a statement that was cancelled."""
_TIMEOUT_LIMIT: Final = 0.1
"""The same for a statement that ran into its ``query_timeout``: its caller has waited already."""

Stop = Callable[[float], Awaitable[bool]]
"""A function that waits for so many seconds until the driver is idle; returns whether it is."""


class StatementLock(FifoLock):
    """The lock of one driver connection on its loop; held by the task of a statement."""

    __slots__ = (
        "_default_limit",
        "_wait_idle",
        "cancel_limit",
        "checkouts",
        "insists",
        "is_begin_due",
        "is_begin_in_doubt",
        "is_driver_exposed",
        "is_interrupted",
        "is_lost",
        "refusal",
    )

    def __init__(self, wait_idle: Stop, *, keeps_connection: bool = False) -> None:
        super().__init__()
        self._wait_idle = wait_idle
        self._default_limit = CANCEL_LIMIT if keeps_connection else None
        self.cancel_limit = self._default_limit
        """Seconds to wait for an interrupted statement, so that its connection can stay in use.

        With 0 the connection is lost immediately. None: an interrupted statement is not waited
        for here, and its connection is discarded.
        """
        self.refusal: Callable[[], Exception | None] | None = None
        """A function, asked for each statement, that returns the error if its block has ended."""
        self.insists = False
        """True if even a task that is cancelled again waits: no connection can replace this one."""
        self.is_lost = False
        """True if an interrupted statement did not end in time: the connection is of no use."""
        self.is_interrupted = False
        """True if an interrupted statement was not waited for: it may take effect any moment."""
        self.is_begin_due = False
        """True if SQLAlchemy has begun a transaction whose BEGIN could not be sent."""
        self.is_begin_in_doubt = False
        """True if a BEGIN was interrupted, and the server may be in a transaction."""
        self.is_driver_exposed = False
        """True if a user has got the driver's own connection since the last check-out."""
        self.checkouts = 0
        """The number of times that the connection was taken from the pool."""

    def locked(self) -> bool:
        """Return whether a statement is under way."""
        return self.holder is not None

    def check_out(self) -> None:
        """Begin a new use of the connection."""
        self.checkouts += 1
        self.is_driver_exposed = False

    def reserve(self, refusal: Callable[[], Exception | None]) -> None:
        """Let a block have the connection: its statements can be interrupted without losing it."""
        self.refusal = refusal
        self.cancel_limit = CANCEL_LIMIT

    def unreserve(self) -> None:
        """Undo :meth:`reserve`."""
        self.refusal = None
        self.cancel_limit = self._default_limit

    async def __aenter__(self) -> None:
        if self.holder is None:
            self.holder = asyncio.current_task()
        else:
            self._raise_refusal()
            await self.acquire(asyncio.current_task())
        try:
            self._raise_refusal()
            if self.is_lost:
                raise _interruption_error("This statement was not sent")
        except BaseException:
            self.release()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and self.is_lost:
            # The tasks of its transaction have got their errors already; this one must not go on.
            self.release()
            self._raise_refusal()
            raise _interruption_error("The answer to this statement came too late")
        if error is not None and self.cancel_limit is None:
            if isinstance(error, TimeoutError) or not isinstance(error, Exception):
                self.is_interrupted = True
        elif error is not None and self.cancel_limit is not None:
            if isinstance(error, asyncio.CancelledError):
                await self._wait_until_idle(self.cancel_limit)
            elif isinstance(error, TimeoutError):
                await self._wait_until_idle(min(self.cancel_limit, _TIMEOUT_LIMIT))
            elif not isinstance(error, Exception):
                self.is_lost = True  # the program is about to end: nothing is awaited any more
        self.release()

    def _raise_refusal(self) -> None:
        if self.refusal is not None:
            error = self.refusal()
            if error is not None:
                raise error

    async def _wait_until_idle(self, limit: float) -> None:
        self.is_lost = True
        if limit and self.insists:
            is_idle, _ = await finish_despite_cancellation(self._stop_within(limit))
            self.is_lost = not is_idle
        elif limit:
            try:
                self.is_lost = not await self._wait_idle(limit)
            except BaseException:
                # Cancelled again: the connection is discarded without waiting for it.
                self.release()
                raise

    async def _stop_within(self, limit: float) -> bool:
        return await self._wait_idle(limit)


def _interruption_error(what: str) -> TransactionAborted:
    return TransactionAborted(
        f"{what}: the connection was closed, because a statement on it was interrupted and did "
        "not end in time. The transaction is rolled back."
    )


def driver_of(connection: Any) -> Any:
    """Return the driver's connection below SQLAlchemy's adapted one; do not mark it exposed."""
    return connection._connection


def lock_of(connection: Any) -> StatementLock:
    """Return the lock of SQLAlchemy's adapted connection."""
    lock: StatementLock = connection._execute_mutex
    return lock
