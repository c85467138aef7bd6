"""asyncpg's protocol behind the lock of its connection, while a user has the driver's connection.

Everything that asyncpg sends goes through its protocol: statements, cursors, prepared statements,
COPY. So the user's work on the driver's connection and that of other tasks come one after the
other, and the end of a block can wait for it, or stop it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from asyncpg.exceptions import InterfaceError, PostgresError

from asgi_dbconn.pools.statement_lock import StatementLock

__all__ = ["LockedProtocol", "expose", "unexpose"]

_SENDING: Final = (
    "bind",
    "bind_execute",
    "bind_execute_many",
    "close_portal",
    "close_statement",
    "copy_in",
    "copy_out",
    "execute",
    "prepare",
    "query",
)
"""The methods that send something, and wait for the answer."""


class LockedProtocol:
    """A stand-in for a connection's protocol; everything else is the protocol's own."""

    def __init__(self, protocol: Any, lock: StatementLock) -> None:
        self._protocol = protocol
        self._lock = lock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._protocol, name)
        if name not in _SENDING:
            return found

        async def send(*arguments: Any, **named: Any) -> Any:
            lock = self._lock
            if lock.holder is asyncio.current_task():
                return await found(*arguments, **named)  # SQLAlchemy's, under its own lock
            async with lock:
                try:
                    return await found(*arguments, **named)
                except (PostgresError, InterfaceError) as error:
                    ended = None if lock.refusal is None else lock.refusal()
                    if ended is not None:
                        raise ended from error
                    raise

        return send


def expose(driver: Any, lock: StatementLock) -> None:
    """Put ``driver``, which a user is about to get, behind ``lock``."""
    lock.is_driver_exposed = True
    if driver._protocol is not None and not isinstance(driver._protocol, LockedProtocol):
        driver._protocol = LockedProtocol(driver._protocol, lock)


def unexpose(driver: Any) -> None:
    """Undo :func:`expose`."""
    if isinstance(driver._protocol, LockedProtocol):
        driver._protocol = driver._protocol._protocol
