"""SQLite through aiosqlite, as a database that keeps its promises.

The driver's defaults lose updates and commit what was rolled back to a savepoint: it begins
transactions by itself, late, and not for every statement. So the driver is told to leave
transactions alone, and every BEGIN is ours.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import aiosqlite
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects import sqlite_deadline
from asgi_dbconn.pools.dialects.aiosqlite_adapter import adapt
from asgi_dbconn.pools.statement_lock import StatementLock

__all__ = ["AUTOCOMMIT", "READONLY", "WRITES", "SQLiteProfile"]

AUTOCOMMIT: Final = "asgi_dbconn_autocommit"
READONLY: Final = "asgi_dbconn_readonly"
WRITES: Final = "asgi_dbconn_writes"
"""Execution options that choose between no BEGIN, BEGIN DEFERRED and BEGIN IMMEDIATE."""

_LISTENER: Final = "asgi_dbconn_when_ended"
_BUSY_TIMEOUT: Final = 5.0
"""Seconds that a statement waits for a lock, unless its query_timeout is shorter."""
_PRAGMAS: Final = (
    # Readers and one writer at the same time; kept in the file, and ignored by memory databases.
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)


class SQLiteProfile:
    """Stateless; one for all pools."""

    # Switching the driver's isolation level would cost a hop to its thread and back, twice.
    has_autocommit = False
    autocommit_options: Mapping[str, Any] = {AUTOCOMMIT: True}

    can_be_lost = False

    def connect_args(self, timeout: float, options: DatabaseOptions) -> dict[str, Any]:
        # Opening a file does not wait for anybody; busy_timeout bounds what does.
        return {"isolation_level": None}

    async def open(self, options: DatabaseOptions, *positional: Any, **arguments: Any) -> Any:
        connection = aiosqlite.connect(*positional, **arguments)
        connection._thread.daemon = True  # as SQLAlchemy does: the interpreter must be able to end
        files = _noted(connection)
        try:
            return await connection
        except BaseException:
            try:
                # Its thread reports its end to this loop. That is a matter of microseconds, but a
                # loop that is closed by then makes it raise there.
                while connection._thread.is_alive():  # noqa: ASYNC110 - a thread sets no event
                    await asyncio.sleep(0.001)
            finally:
                for each in files:
                    each.close()
            raise

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        busy_timeout = min(_BUSY_TIMEOUT, options.query_timeout or _BUSY_TIMEOUT)
        event.listen(engine, "connect", partial(_configure, busy_timeout))
        event.listen(engine, "close", _tell_of_its_end)
        event.listen(engine, "close_detached", _tell_of_its_end)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "commit", _allow_writes)
        event.listen(engine, "rollback", _allow_writes)
        event.listen(engine, "invalidate", _let_go_of_locks)
        if options.query_timeout is not None:
            sqlite_deadline.install(engine, options.query_timeout)

    def is_stale_plan(self, error: DBAPIError) -> bool:
        return False  # SQLite prepares anew by itself

    def is_query_timeout(self, error: BaseException, connection: Connection) -> bool:
        return sqlite_deadline.has_passed(connection, error)

    def transaction_options(self, *, readonly: bool) -> Mapping[str, Any]:
        return {WRITES: True, READONLY: readonly}

    def is_permanent(self, error: BaseException) -> bool:
        # A lock is given back; a missing folder, or a file that is no database, stays what it is.
        return getattr(error, "sqlite_errorname", "") not in ("SQLITE_BUSY", "SQLITE_LOCKED")

    def remedy(self, error: BaseException) -> str:
        return "Does the folder exist, and may this process write there?"

    def adapt(self, connection: Any) -> None:
        adapt(connection)

    def find_fault(self, connection: Any) -> str | None:
        driver = connection._connection
        if driver._connection is not None and driver.in_transaction:
            return "a transaction was still open on it"
        return None

    async def clean(self, connection: Any, *, resets_all: bool) -> bool:
        driver = connection._connection
        if driver._connection is None:
            return False
        if driver.in_transaction:
            await driver.rollback()
        return True

    async def stop(self, connection: Any, limit: float) -> bool:
        lock: StatementLock = connection._execute_mutex
        if not lock.locked():
            return True
        await connection._connection.interrupt()
        try:
            async with asyncio.timeout(limit):
                await lock.wait_until_free()
        except TimeoutError:
            return False
        return True

    async def ping(self, connection: Any) -> None:
        await connection.execute_fetchall("SELECT 1")

    async def reset(self, connection: Any) -> None:
        """Nothing outlives a transaction here but what the connection was configured with."""

    def is_open(self, connection: Any) -> bool:
        return connection._connection is not None

    async def end(self, connection: Any, timeout: float) -> None:
        await connection.interrupt()
        # The interrupt stays in force until a statement begins; close() would not be able to
        # write the WAL back into the file, and leave its -wal and -shm files behind.
        await connection.execute_fetchall("SELECT 1")
        await connection.close()
        _told(connection)

    def take_care_of(self, connection: Any) -> None:
        """Nobody else's goodbye could do any harm."""

    def when_ended(self, connection: Any, listener: Callable[..., None]) -> None:
        setattr(connection, _LISTENER, listener)

    def terminate(self, connection: Any) -> None:
        self.cut(connection)

    def cut(self, connection: Any) -> None:
        # stop() tells the connection's thread to end, and to report that to the loop of the thread
        # that asks. That loop may be closed by then, and the report would raise there; a thread
        # without a loop gets none.
        asking = threading.Thread(target=connection.stop, name="asgi-dbconn ends a connection")
        asking.start()
        asking.join()
        _told(connection)


def _noted(connection: aiosqlite.Connection) -> list[sqlite3.Connection]:
    """What the driver's thread opens; it forgets a file whose opening nobody waits for any more."""
    opened: list[sqlite3.Connection] = []
    connector = connection._connector

    def open_and_note() -> sqlite3.Connection:
        opened.append(connector())
        return opened[-1]

    connection._connector = open_and_note
    return opened


def _told(connection: Any) -> None:
    listener = vars(connection).pop(_LISTENER, None)
    if listener is not None:
        listener()


def _tell_of_its_end(connection: Any, *_: Any) -> None:
    _told(connection.driver_connection)


def _configure(busy_timeout: float, connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    # First: the next one may have to wait already.
    cursor.execute(f"PRAGMA busy_timeout={busy_timeout * 1000:.0f}")
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(AUTOCOMMIT):
        return
    # IMMEDIATE takes the write lock now, when waiting for it is possible; a DEFERRED transaction
    # that reads first and writes later fails at once if somebody else wrote in between.
    immediate = options.get(WRITES) and not options.get(READONLY)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN DEFERRED")
    if options.get(READONLY):
        connection.exec_driver_sql("PRAGMA query_only=ON")


def _allow_writes(connection: Connection) -> None:
    if connection.get_execution_options().get(READONLY) and not connection.invalidated:
        connection.exec_driver_sql("PRAGMA query_only=OFF")


def _let_go_of_locks(connection: Any, *_: Any) -> None:
    # A statement that was cancelled halfway keeps a closed connection, and with it the file's
    # write lock, alive until the garbage collector comes by.
    if in_greenlet():
        driver = connection.driver_connection
        await_only(driver.interrupt())
        await_only(driver.rollback())
