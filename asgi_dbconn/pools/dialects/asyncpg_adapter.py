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

from asgi_dbconn.errors import TransactionAborted, TransactionClosed, TransactionError
from asgi_dbconn.pools.dialects.asyncpg_cancel import wait_cancelled
from asgi_dbconn.pools.dialects.asyncpg_protocol import expose
from asgi_dbconn.pools.dialects.locked_connection import LockedConnection, lock
from asgi_dbconn.pools.statement_lock import lock_of

__all__ = ["AdaptedConnection", "adapt"]


class _LockedCursor:
    """A cursor on the server whose fetches are statements like others.

    It must not be used after its connection was released: it is another user's then.
    """

    __slots__ = ("_adapted", "_checkout", "_cursor", "_refusal")

    def __init__(self, adapted: Any, cursor: Any) -> None:
        lock = lock_of(adapted)
        self._adapted = adapted
        self._cursor = cursor
        self._checkout = lock.checkouts
        self._refusal = lock.refusal

    async def fetch(self, count: int) -> Sequence[Any]:
        rows: Sequence[Any] = ()
        lock = lock_of(self._adapted)
        async with lock:
            if lock.checkouts != self._checkout or lock.refusal is not self._refusal:
                raise self._make_closed_error()
            try:
                rows = await self._cursor.fetch(count)
            except Exception as error:
                self._adapted._handle_exception(error)  # translated, as that of a statement is
        return rows

    def _make_closed_error(self) -> Exception:
        ended = None if self._refusal is None else self._refusal()
        return ended or TransactionClosed(
            "The connection of this cursor has been released to its pool, so no more rows can be "
            "read. Read them inside the block."
        )


class _ServerSideCursor(AsyncAdapt_asyncpg_ss_cursor):
    __slots__ = ()

    async def _prepare_and_execute(self, operation: Any, parameters: Any) -> None:
        await super()._prepare_and_execute(operation, parameters)  # type: ignore[no-untyped-call]
        cursor: Any = _LockedCursor(self._adapt_connection, self._cursor)
        self._cursor = cursor


class AdaptedConnection(LockedConnection, AsyncAdapt_asyncpg_connection):
    """A connection that notices a refused COMMIT and an interrupted BEGIN."""

    __slots__ = ()

    _ss_cursor_cls = _ServerSideCursor
    _connection: Any
    _execute_mutex: Any  # a StatementLock instead of SQLAlchemy's mutex

    @property
    def driver_connection(self) -> Any:
        """The connection of asyncpg. Its user may change the session and not change it back.

        Raises TransactionError where the BEGIN of its transaction was not sent yet, and cannot be.
        """
        lock = lock_of(self)
        if lock.is_begin_due and self._transaction is None:
            raise TransactionError(
                "The transaction on this connection has not sent its BEGIN yet, and nothing can be "
                "sent from here: each statement of the driver would be committed by itself. "
                "Use `await connection.get_raw_connection()`, which sends it."
            )
        expose(self._connection, lock)
        return self._connection

    def commit(self) -> None:
        if self._transaction is not None:
            self._finish(self._commit)
        self._execute_mutex.is_begin_due = False

    def rollback(self) -> None:
        lock = self._execute_mutex
        if self._transaction is not None:
            self._finish(partial(self._call_and_discard, self._transaction.rollback))
        elif lock.is_begin_in_doubt:
            self._finish(self._roll_back_half_begun)
        lock.is_begin_due = False

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

    async def _commit(self) -> None:
        # Not asyncpg's own: it does not read whether the server has committed.
        self._connection._top_xact = None
        try:
            done = await self._connection.execute("COMMIT")
        finally:
            self._transaction = None
        if done != "COMMIT":
            raise TransactionAborted(
                "The server has rolled this transaction back instead of committing it, because a "
                "statement of it had failed. Let the error of a statement leave the block, or put "
                "what may fail into a transaction() of its own inside: that is a savepoint."
            )

    async def _start_transaction(self) -> None:
        try:
            await super()._start_transaction()  # type: ignore[no-untyped-call]
        except BaseException:
            self._execute_mutex.is_begin_in_doubt = True
            raise

    async def _roll_back_half_begun(self) -> None:
        self._execute_mutex.is_begin_in_doubt = False
        self._connection._top_xact = None
        if not self._connection.is_closed() and self._connection.is_in_transaction():
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
    lock(connection, kind, partial(wait_cancelled, driver), keeps_connection=keeps_connection)
