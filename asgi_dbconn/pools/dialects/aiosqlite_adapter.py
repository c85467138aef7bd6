"""SQLAlchemy's adapted aiosqlite connection, with every use of the driver behind its lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_ss_cursor,
)
from sqlalchemy.util import EMPTY_DICT, await_only

from asgi_dbconn.pools.dialects.locked_connection import LockedConnection, lock
from asgi_dbconn.pools.dialects.sqlite_driver import DriverConnection, Outcome
from asgi_dbconn.pools.dialects.sqlite_statements import Kind, kind_of
from asgi_dbconn.pools.dialects.sqlite_transaction import BeginOptions
from asgi_dbconn.pools.statement_lock import lock_of

__all__ = ["AdaptedConnection", "adapt"]

_BATCH: Final = 64
"""Rows that are fetched together if the caller names no number."""


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor that executes and fetches in one call to the thread; SQLAlchemy makes four."""

    __slots__ = ()

    _connection: Any

    def __init__(self, adapted: Any) -> None:
        self._adapt_connection = adapted
        self._connection = adapted._connection
        self._cursor: Any = Outcome()
        self._soft_closed_memoized = EMPTY_DICT
        self._rows: deque[Any] = deque()

    async def _execute_async(self, operation: str, parameters: Any) -> None:
        await self._perform(operation, () if parameters is None else parameters, many=False)

    async def _executemany_async(self, operation: str, seq_of_parameters: Any) -> None:
        await self._perform(operation, seq_of_parameters, many=True)

    async def _perform(self, operation: str, parameters: Any, *, many: bool) -> None:
        outcome: Outcome = self._cursor
        async with self._adapt_connection._execute_mutex:
            await self._connection.perform(outcome, operation, parameters, many=many)
        self._rows = outcome.rows

    async def _async_soft_close(self) -> None:
        """Do nothing: no cursor is open."""

    def close(self) -> None:
        self._rows.clear()


class _StreamingCursor(AsyncAdapt_aiosqlite_ss_cursor):
    """A cursor whose fetches are statements like others."""

    __slots__ = ("_kind",)

    _connection: Any

    def __init__(self, adapted: Any) -> None:
        self._adapt_connection = adapted
        self._connection = adapted._connection
        self._cursor: Any = None
        self._soft_closed_memoized = EMPTY_DICT
        self._rows: deque[Any] = deque()
        self._kind = Kind.WRITES

    async def _execute_async(self, operation: str, parameters: Any) -> None:
        self._kind = kind_of(operation)
        async with self._adapt_connection._execute_mutex:
            await self._connection.open_cursor(
                operation, () if parameters is None else parameters, self._keep
            )

    def _keep(self, cursor: Any) -> None:
        self._cursor = cursor

    def fetchone(self) -> Any:
        return await_only(self._fetch(self._cursor.fetchone))

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        size = self._cursor.arraysize if size is None else size
        rows: Sequence[Any] = await_only(self._fetch(partial(self._cursor.fetchmany, size)))
        return rows

    def fetchall(self) -> Sequence[Any]:
        rows: Sequence[Any] = await_only(self._fetch(self._cursor.fetchall))
        return rows

    def __iter__(self) -> Iterator[Any]:
        while rows := self.fetchmany(_BATCH):
            yield from rows

    def close(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            self._connection.close_cursor(cursor)

    async def _fetch(self, fetch: Any) -> Any:
        async with self._adapt_connection._execute_mutex:
            return await self._connection.fetch(self._kind, self._cursor, fetch)


class AdaptedConnection(LockedConnection, AsyncAdapt_aiosqlite_connection):
    """A connection whose COMMIT and ROLLBACK follow the transaction that SQLite is really in."""

    __slots__ = ()

    _cursor_cls: Any = _Cursor
    _ss_cursor_cls: Any = _StreamingCursor
    _connection: Any

    COMMIT: tuple[str, ...] = ("COMMIT",)
    ROLLBACK: tuple[str, ...] = ("ROLLBACK",)

    # SQLAlchemy sets a mode of the driver by this name, in which the driver begins transactions.
    # Here every BEGIN is ours.

    @property
    def isolation_level(self) -> str | None:
        return None if self._connection.is_autocommit else ""

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        self._connection.is_autocommit = value is None

    @property
    def is_autocommit(self) -> bool:
        """True if SQLAlchemy was asked for the isolation level AUTOCOMMIT."""
        return bool(self._connection.is_autocommit)

    def begin(self, options: BeginOptions) -> None:
        """Begin a transaction by ``options``; send nothing if nothing begins or ends."""
        driver: DriverConnection = self._connection
        if options.statement is not None or options.readonly or driver.transaction.is_begun:
            self._finish(partial(driver.begin_transaction, options, self.ROLLBACK))

    def commit(self) -> None:
        driver: DriverConnection = self._connection
        if self._needs_end(driver):
            self._finish(partial(driver.end_transaction, self.COMMIT))

    def rollback(self) -> None:
        driver: DriverConnection = self._connection
        if self._needs_end(driver):
            self._finish(partial(driver.end_transaction, self.ROLLBACK))

    def _needs_end(self, driver: DriverConnection) -> bool:
        if not driver.is_open:
            return False
        transaction = driver.transaction
        if transaction.is_begun or driver.is_query_only or lock_of(self).locked():
            return True
        return not transaction.is_permanent and driver.in_transaction


def adapt(
    connection: AsyncAdapt_aiosqlite_connection,
    kind: type[AdaptedConnection] = AdaptedConnection,
) -> None:
    """Turn SQLAlchemy's adapted connection into one of ``kind``."""
    driver: Any = connection._connection
    lock(connection, kind, driver.wait_or_interrupt, keeps_connection=True)
