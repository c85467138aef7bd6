"""PostgreSQL, isolated: asyncpg begins savepoints by itself inside a transaction of its own."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from asyncpg.exceptions import InterfaceError, PostgresError
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects.asyncpg_adapter import AdaptedConnection, adapt
from asgi_dbconn.pools.dialects.asyncpg_protocol import unexpose
from asgi_dbconn.pools.dialects.isolated_profile import Undo, refuse_another
from asgi_dbconn.pools.dialects.postgresql import PostgreSQLProfile
from asgi_dbconn.pools.statement_lock import driver_of, lock_of
from asgi_dbconn.pools.undo_log import UndoLog, keep_log

__all__ = ["IsolatedPostgreSQL"]


class _IsolatedConnection(AdaptedConnection):
    """A connection that leaves the one transaction alone: only savepoints in it are rolled back."""

    __slots__ = ()

    def commit(self) -> None:
        if self._transaction is not None:
            self._finish(partial(self._call_and_discard, self._transaction.commit))
        lock_of(self).is_begin_due = False

    def rollback(self) -> None:
        if self._transaction is not None:
            super().rollback()
        lock_of(self).is_begin_due = False


class IsolatedPostgreSQL(PostgreSQLProfile):
    """The profile of an isolated PostgreSQL, for one pool, which has one connection."""

    # Each statement in a savepoint of its own: one that fails would take everything along.
    has_autocommit = False

    def __init__(self) -> None:
        self.undo_log = UndoLog(is_isolated=True)
        self._everything: Any = None

    async def open(self, options: DatabaseOptions, *positional: Any, **arguments: Any) -> Any:
        refuse_another(self._everything)
        return await super().open(options, *positional, **arguments)

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        super().install(engine, options)
        event.listen(engine, "connect", self._begin_everything)
        event.listen(engine, "begin", _begin_readonly)
        setattr(engine.dialect, _set_isolation_level.__name__[1:], _set_isolation_level)

    def adapt(self, connection: Any) -> None:
        adapt(connection, _IsolatedConnection, keeps_connection=True)
        lock_of(connection).insists = True

    def find_fault(self, connection: Any) -> str | None:
        return None  # it is in a transaction, and stays there

    async def clean(self, connection: Any, *, resets_all: bool) -> bool:
        driver = connection._connection
        unexpose(driver)
        driver._listeners.clear()
        driver._log_listeners.clear()
        await driver.execute("UNLISTEN *")
        return True

    async def end(self, connection: Any, timeout: float) -> None:
        # Before the goodbye: the server would roll back too, but in its own time, and whoever
        # comes next would meet the locks.
        with suppress(PostgresError, InterfaceError, OSError):  # it is busy, or gone
            await connection.execute("ROLLBACK", timeout=timeout)
        await super().end(connection, timeout)

    async def mark(self, connection: Any) -> Undo:
        savepoint = connection.transaction()
        await savepoint.start()
        undo: Undo = savepoint.rollback
        return undo

    def _begin_everything(self, connection: Any, record: ConnectionPoolEntry) -> None:
        keep_log(record, self.undo_log)
        self._everything = driver_of(connection).transaction()
        await_only(self._everything.start())


def _begin_readonly(connection: Connection) -> None:
    # Until the end of the savepoint, where PostgreSQL takes it back by itself.
    if connection.get_execution_options().get("postgresql_readonly"):
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _set_isolation_level(connection: Any, level: str) -> None:
    # A savepoint has the level of its transaction; asyncpg refuses to be told another.
    connection.set_isolation_level("autocommit" if level == "AUTOCOMMIT" else None)
