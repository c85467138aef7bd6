"""Profiles for test isolation: every transaction is a savepoint in one that is never committed.

On PostgreSQL asyncpg begins savepoints by itself inside a transaction of its own. On SQLite each
BEGIN becomes a SAVEPOINT here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final, Protocol

from asyncpg.exceptions import InterfaceError, PostgresError
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects import aiosqlite_adapter, asyncpg_adapter
from asgi_dbconn.pools.dialects.asyncpg_protocol import unexpose
from asgi_dbconn.pools.dialects.postgresql import PostgreSQLProfile
from asgi_dbconn.pools.dialects.profile import DialectProfile
from asgi_dbconn.pools.dialects.sqlite import SQLiteProfile
from asgi_dbconn.pools.dialects.sqlite_transaction import BeginOptions
from asgi_dbconn.pools.statement_lock import CANCEL_LIMIT, driver_of, lock_of
from asgi_dbconn.pools.undo_log import UndoLog, keep_log

__all__ = ["IsolatedPostgreSQL", "IsolatedProfile", "IsolatedSQLite", "Undo", "refuse_another"]


Undo = Callable[[], Awaitable[object]]


class IsolatedProfile(DialectProfile, Protocol):
    """A profile for one pool only: it knows whether its connection was opened already."""

    undo_log: UndoLog
    """The objects that are restored at the end. A savepoint begins a part of it."""

    async def savepoint(self, connection: Any) -> Undo:
        """Begin a savepoint on the driver's connection; return how to roll back to it."""
        ...


def refuse_another(is_lost: object) -> None:
    """Raise TransactionAborted if the one transaction is lost: another would not be the same."""
    if is_lost:
        raise TransactionAborted(
            "The connection on which this database is isolated was lost, or was closed together "
            "with a statement that was cancelled, and everything since the isolation began is "
            "rolled back. Leave the isolation, and begin another."
        )


class _AsyncpgConnection(asyncpg_adapter.AdaptedConnection):
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

    # Each statement in a savepoint of its own: one that fails would end the whole transaction.
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
        asyncpg_adapter.adapt(connection, _AsyncpgConnection, keeps_connection=True)
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

    async def close(self, connection: Any, timeout: float) -> None:
        # Before it is closed: the server would roll back too, but later, and the next user would
        # wait for the locks.
        with suppress(PostgresError, InterfaceError, OSError):  # it is busy, or gone
            await connection.execute("ROLLBACK", timeout=timeout)
        await super().close(connection, timeout)

    async def savepoint(self, connection: Any) -> Undo:
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


_TRANSACTION: Final = "asgi_dbconn_transaction"
_INTERRUPT_AFTER: Final = CANCEL_LIMIT - 0.5
"""Seconds for which a statement that writes is not interrupted: that would end the isolation."""
_numbers: Final = count(1)


class _SQLiteConnection(aiosqlite_adapter.AdaptedConnection):
    """A connection whose transactions are savepoints in the one that has no end."""

    __slots__ = ()

    COMMIT = (f"RELEASE {_TRANSACTION}",)
    ROLLBACK = (f"ROLLBACK TO {_TRANSACTION}", f"RELEASE {_TRANSACTION}")

    def begin(self, options: BeginOptions) -> None:
        # SQLite rolls a whole transaction back by itself if a statement that writes is interrupted.
        # A savepoint outside of any is a transaction, and releasing it a commit.
        refuse_another(not self._connection.in_transaction)
        savepoint = None if options.statement is None else f"SAVEPOINT {_TRANSACTION}"
        super().begin(BeginOptions(savepoint, readonly=options.readonly))


class IsolatedSQLite(SQLiteProfile):
    """The profile of an isolated SQLite, for one pool, which has one connection."""

    autocommit_options: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.undo_log = UndoLog(is_isolated=True)
        self._was_opened = False

    async def open(self, options: DatabaseOptions, *positional: Any, **arguments: Any) -> Any:
        refuse_another(self._was_opened)
        return await super().open(options, *positional, **arguments)

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        super().install(engine, options)
        event.listen(engine, "connect", self._begin_everything)

    def adapt(self, connection: Any) -> None:
        aiosqlite_adapter.adapt(connection, _SQLiteConnection)
        lock_of(connection).insists = True
        driver_of(connection).interrupt_after = _INTERRUPT_AFTER

    async def savepoint(self, connection: Any) -> Undo:
        refuse_another(not connection.in_transaction)
        name = f"asgi_dbconn_savepoint_{next(_numbers)}"  # savepoints of one name hide each other
        await connection.execute_fetchall(f"SAVEPOINT {name}")
        return partial(_undo, connection, name)

    def _begin_everything(self, connection: Any, record: ConnectionPoolEntry) -> None:
        keep_log(record, self.undo_log)
        self._was_opened = True
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        cursor.close()
        driver_of(connection).transaction.is_permanent = True


async def _undo(connection: Any, name: str) -> None:
    refuse_another(not connection.in_transaction)
    await connection.execute_fetchall(f"ROLLBACK TO {name}")
    await connection.execute_fetchall(f"RELEASE {name}")
