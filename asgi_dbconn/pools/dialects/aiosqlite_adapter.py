"""SQLAlchemy's adapted aiosqlite connection, with every use of the driver behind its lock."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection

from asgi_dbconn.pools.dialects.locked_connection import LockedConnection, lock

__all__ = ["AdaptedConnection", "adapt"]


class AdaptedConnection(LockedConnection, AsyncAdapt_aiosqlite_connection):
    """Commits and rolls back what SQLite is in."""

    __slots__ = ()

    _connection: Any

    def commit(self) -> None:
        if self._connection.in_transaction:
            self._finish(self._connection.commit)

    def rollback(self) -> None:
        if self._connection._connection is not None and self._connection.in_transaction:
            self._finish(self._connection.rollback)


async def _settle(driver: Any, limit: float) -> bool:
    # Behind whatever the driver's thread still does.
    await driver.interrupt()
    await driver.execute_fetchall("SELECT 1")
    return True


def adapt(connection: AsyncAdapt_aiosqlite_connection) -> None:
    """Turn SQLAlchemy's adapted connection into ours."""
    settle = partial(_settle, connection._connection)
    lock(connection, AdaptedConnection, settle, keeps_connection=True)
