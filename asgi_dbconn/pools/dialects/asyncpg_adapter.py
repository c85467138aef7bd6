"""SQLAlchemy's adapted asyncpg connection, with every use of the driver behind its lock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    AsyncAdapt_asyncpg_ss_cursor,
)
from sqlalchemy.util.concurrency import in_greenlet

from asgi_dbconn.errors import TransactionError
from asgi_dbconn.pools.dialects.asyncpg_cancel import settle
from asgi_dbconn.pools.dialects.locked_connection import LockedConnection, lock
from asgi_dbconn.pools.statement_lock import lock_of

__all__ = ["AdaptedConnection", "adapt"]


class _LockedCursor:
    """A cursor on the server whose fetches are statements like others."""

    __slots__ = ("_adapted", "_cursor")

    def __init__(self, adapted: Any, cursor: Any) -> None:
        self._adapted = adapted
        self._cursor = cursor

    async def fetch(self, count: int) -> Sequence[Any]:
        rows: Sequence[Any] = ()
        async with lock_of(self._adapted):
            try:
                rows = await self._cursor.fetch(count)
            except Exception as error:
                self._adapted._handle_exception(error)  # translated, as that of a statement is
        return rows


class _ServerSideCursor(AsyncAdapt_asyncpg_ss_cursor):
    __slots__ = ()

    async def _prepare_and_execute(self, operation: Any, parameters: Any) -> None:
        await super()._prepare_and_execute(operation, parameters)  # type: ignore[no-untyped-call]
        self._cursor = _LockedCursor(self._adapt_connection, self._cursor)


class AdaptedConnection(LockedConnection, AsyncAdapt_asyncpg_connection):
    """Rolls back what the server is in, whatever SQLAlchemy believes."""

    __slots__ = ()

    _ss_cursor_cls = _ServerSideCursor
    _connection: Any
    _execute_mutex: Any  # a StatementLock, in SQLAlchemy's place for it

    @property
    def driver_connection(self) -> Any:
        """The connection of asyncpg. Whoever gets it may leave anything behind.

        Raises TransactionError where the BEGIN of its transaction was not sent yet, and cannot be.
        """
        lock = lock_of(self)
        if lock.is_begin_due and self._transaction is None:
            raise TransactionError(
                "The transaction on this connection has not sent its BEGIN yet, and nothing can be "
                "sent from here: what the driver is given would be committed by itself. "
                "Use `await connection.get_raw_connection()`, which sends it."
            )
        lock.is_driver_exposed = True
        return self._connection

    def commit(self) -> None:
        if self._transaction is not None:
            self._finish(partial(self._call_and_discard, self._transaction.commit))
        self._execute_mutex.is_begin_due = False

    def rollback(self) -> None:
        # The server's own word: a BEGIN that was interrupted, or sent by hand, has to end, too.
        if self._transaction is not None:
            self._finish(partial(self._call_and_discard, self._transaction.rollback))
        elif not self._connection.is_closed() and self._connection.is_in_transaction():
            self._finish(self._roll_back_by_hand)
        self._execute_mutex.is_begin_due = False

    def begin_autocommit(self) -> str | None:
        """Let the server commit each statement by itself. Return what :meth:`end_autocommit` takes.

        A flag of the client's, for a connection without a transaction: nothing is sent.
        """
        level: str | None = self.isolation_level
        self.isolation_level = "autocommit"
        return level

    def end_autocommit(self, level: str | None) -> None:
        """Begin transactions again, of ``level``."""
        self.isolation_level = level

    def ensure_begun(self) -> None:
        """Send BEGIN now, which SQLAlchemy would do with the first statement."""
        if self._transaction is not None or self.isolation_level == "autocommit":
            return
        if in_greenlet():
            self._finish(self._start_transaction)
        else:
            lock_of(self).is_begin_due = True

    async def _roll_back_by_hand(self) -> None:
        self._connection._top_xact = None
        await self._connection.execute("ROLLBACK")


def adapt(
    connection: AsyncAdapt_asyncpg_connection,
    kind: type[AdaptedConnection] = AdaptedConnection,
    *,
    keeps_connection: bool = False,
) -> None:
    """Turn SQLAlchemy's adapted connection into one of ``kind``.

    ``keeps_connection``: whether an interrupted statement never costs the connection.
    """
    driver = connection._connection
    lock(connection, kind, partial(settle, driver), keeps_connection=keeps_connection)
