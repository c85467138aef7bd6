"""SQLite through aiosqlite: transactions, pragmas, memory databases, copies of files.

The driver's defaults lose updates and commit what was rolled back to a savepoint: it begins
transactions by itself, late, and not for every statement. So its own transactions are switched off,
and every BEGIN is ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects import sqlite_deadline
from asgi_dbconn.pools.dialects.aiosqlite_adapter import AdaptedConnection, adapt
from asgi_dbconn.pools.dialects.profile import AUTOCOMMIT, READONLY, WRITES
from asgi_dbconn.pools.dialects.sqlite_driver import DriverConnection
from asgi_dbconn.pools.dialects.sqlite_statements import LOCKING
from asgi_dbconn.pools.dialects.sqlite_transaction import BeginOptions, is_busy
from asgi_dbconn.pools.statement_lock import CANCEL_LIMIT, driver_of, lock_of
from asgi_dbconn.urls import DatabaseURL

__all__ = ["MemoryKeeper", "SQLiteProfile", "copy_file", "memory_url"]

_BUSY_TIMEOUT: Final = 5.0
"""Seconds that a statement waits for a lock, unless its query_timeout is shorter."""
_PRAGMAS: Final = (
    # Readers and one writer at the same time; kept in the file, and ignored by memory databases.
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)


class _Compiler(SQLiteCompiler):
    """A compiler that marks a SELECT FOR UPDATE, so that the connection can take the write lock."""

    def for_update_clause(self, select: Any, **kw: Any) -> Any:
        return LOCKING


class SQLiteProfile:
    """The profile of SQLite, stateless; one for all pools."""

    # Switching the driver's isolation level would cost a hop to its thread and back, twice.
    has_autocommit = False
    autocommit_options: Mapping[str, Any] = {AUTOCOMMIT: True}

    driver_errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    buffers_rows = False
    can_be_lost = False

    def connect_args(self, timeout: float, options: DatabaseOptions) -> dict[str, Any]:
        # Opening a file waits for no lock; busy_timeout bounds the statements that do.
        return {"isolation_level": None}

    async def open(self, options: DatabaseOptions, *positional: Any, **arguments: Any) -> Any:
        return await DriverConnection.to(*positional, **arguments)

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        busy_timeout = min(_BUSY_TIMEOUT, options.query_timeout or _BUSY_TIMEOUT)
        event.listen(engine, "connect", partial(_configure, busy_timeout))
        event.listen(engine, "close", _notify_when_ended)
        event.listen(engine, "close_detached", _notify_when_ended)
        event.listen(engine, "begin", self.begin)
        engine.dialect.statement_compiler = _Compiler
        if options.query_timeout is not None:
            sqlite_deadline.install(engine, options.query_timeout)

    def is_conflict(self, error: BaseException) -> bool:
        return is_busy(error)

    def is_read_only_server(self, error: BaseException, options: Mapping[str, Any]) -> bool:
        return False  # there is no server

    def is_stale_plan(self, error: DBAPIError) -> bool:
        return False  # SQLite prepares anew by itself

    def begin(self, connection: Connection) -> None:
        """Begin the transaction in SQLite that SQLAlchemy has begun on ``connection``."""
        adapted = _get_adapted(connection)
        options = connection.get_execution_options()
        readonly = bool(options.get(READONLY))
        if options.get(AUTOCOMMIT) or adapted.is_autocommit:
            begin_options = BeginOptions(None, readonly=readonly)
        else:
            # IMMEDIATE takes the write lock now, when waiting for it is possible; a DEFERRED
            # transaction that reads first and writes later is refused if another one wrote in
            # between, and has to begin anew.
            immediate = bool(options.get(WRITES)) and not readonly
            begin_options = BeginOptions(
                "BEGIN IMMEDIATE" if immediate else "BEGIN DEFERRED",
                readonly=readonly,
                can_restart=not immediate and not readonly,
            )
        sqlite_deadline.begin(connection)
        try:
            adapted.begin(begin_options)
        except BaseException as error:
            # As that of any other statement: it is translated, and listeners are called.
            statement = begin_options.statement if isinstance(error, sqlite3.Error) else None
            connection._handle_dbapi_exception(error, statement, None, None, None)
        finally:
            sqlite_deadline.end(connection)

    def is_query_timeout(self, error: BaseException, connection: Connection) -> bool:
        return sqlite_deadline.has_passed(connection, error)

    def transaction_options(self, *, readonly: bool) -> Mapping[str, Any]:
        return {WRITES: True, READONLY: readonly}

    def is_permanent(self, error: BaseException) -> bool:
        # A lock is released some time; a missing folder or a broken file is permanent.
        return getattr(error, "sqlite_errorname", "") not in ("SQLITE_BUSY", "SQLITE_LOCKED")

    def remedy(self, error: BaseException) -> str:
        return "Does the folder exist, and may this process write there?"

    def adapt(self, connection: Any) -> None:
        adapt(connection)

    def find_fault(self, connection: Any) -> str | None:
        driver: DriverConnection = connection._connection
        if not driver.is_open:
            return None  # the next acquire notices, and replaces it
        if not driver.is_idle:
            return "a statement that was sent through the driver was still under way"
        if driver.in_transaction and not driver.transaction.is_permanent:
            return "a transaction was still open on it"
        # SQLAlchemy does not roll back after a commit that failed before it releases.
        driver.transaction.end()
        if driver.is_query_only:
            return "a transaction on it that may not write was not ended"
        if driver.has_unfinished_cursors:
            return "the rows of a statement were not read to their end"
        return None

    async def clean(self, connection: Any, *, resets_all: bool) -> bool:
        driver: DriverConnection = connection._connection
        if self.find_fault(connection) is None:
            return driver.is_open
        return await driver.put_in_order(CANCEL_LIMIT)

    async def stop(self, connection: Any, limit: float) -> bool:
        driver: DriverConnection = connection._connection
        lock = lock_of(connection)
        if not lock.locked():
            return True
        return await driver.stop_statement(lock.wait_until_free(), limit)

    async def ping(self, connection: Any) -> None:
        await connection.execute_fetchall("SELECT 1")

    async def reset(self, connection: Any) -> None:
        """Do nothing: only the connection's configuration outlives a transaction here."""

    def is_open(self, connection: Any) -> bool:
        return connection._connection is not None

    async def close(self, connection: Any, timeout: float) -> None:
        await connection.finish(timeout)
        _notify_end(connection)

    def disable_implicit_close(self, connection: Any) -> None:
        """Do nothing: no other close does any harm."""

    def on_closed(self, connection: Any, listener: Callable[..., None]) -> None:
        connection.on_closed = listener

    def terminate(self, connection: Any) -> None:
        self.abort(connection)

    def abort(self, connection: Any) -> None:
        connection.interrupt_now()
        connection.stop()
        _notify_end(connection)


def _notify_end(connection: DriverConnection) -> None:
    listener, connection.on_closed = connection.on_closed, None
    if listener is not None:
        listener()


def _notify_when_ended(connection: Any, *_: Any) -> None:
    _notify_end(driver_of(connection))


def _configure(busy_timeout: float, connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    # First: the next one may have to wait already.
    cursor.execute(f"PRAGMA busy_timeout={busy_timeout * 1000:.0f}")
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _get_adapted(connection: Connection) -> AdaptedConnection:
    # It is about to begin, so this only connects anew if the connection before was lost.
    adapted: Any = connection.connection.dbapi_connection
    return cast("AdaptedConnection", adapted)


_numbers = count(1)


def memory_url(url: DatabaseURL) -> DatabaseURL:
    """Return the URL under which every connection of this process finds one new, empty database."""
    query = {key: value for key, value in url.query.items() if key not in ("mode", "cache")}
    name = f"file:/asgi-dbconn-{next(_numbers)}"
    return url.replace(database=name, query={**query, "vfs": "memdb", "uri": "true"})


class MemoryKeeper:
    """The one connection that keeps a memory database alive between connect and disconnect."""

    def __init__(self, url: DatabaseURL) -> None:
        self._file = f"{url.database}?vfs=memdb"
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        # One thread opens it and another closes it, but never at the same time.
        self._connection = sqlite3.connect(self._file, uri=True, check_same_thread=False)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def copy_file(original: Path, copy: Path) -> None:
    """Copy the database in the file ``original``, with what is in its journal, into ``copy``.

    Waits in the calling thread. To copy the file alone would leave the journal behind.
    """
    address = f"{original.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as source:
        with closing(sqlite3.connect(copy)) as target:
            source.backup(target)
