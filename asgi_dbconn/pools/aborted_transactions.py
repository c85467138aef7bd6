"""Aborted transactions: one that lost a statement cannot be committed.

PostgreSQL answers COMMIT with a silent ROLLBACK once a statement of the transaction failed, so
code that swallowed the error would lose its writes without notice. SQLite goes on as if nothing
had happened. Here both raise an error: the same program behaves the same on both.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine, ExceptionContext
from sqlalchemy.pool import PoolProxiedConnection

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.pools.dialects.profile import AUTOCOMMIT
from asgi_dbconn.pools.pooled_connection import PooledConnection

__all__ = ["ABORTED", "clear_aborted", "install", "mark_aborted", "raise_if_aborted"]

ABORTED: Final = "asgi_dbconn.aborted"
"""The key of the note in a pooled connection's info."""


def install(engine: Engine) -> None:
    """Watch the transactions on every connection of ``engine`` and of its views."""
    event.listen(engine, "handle_error", _note_failure)
    _watch_transactions(engine.dialect)


def raise_if_aborted(connection: Connection) -> None:
    """Raise TransactionAborted if a part of the connection's transaction has failed."""
    if connection.invalidated:
        why = getattr(connection, "lost_transaction", None)
        if why is None and connection.in_transaction():
            why = "its connection was closed"
    else:
        why = connection.info.get(ABORTED)
    if why is not None:
        raise _error_of_commit(why)


def mark_aborted(connection: Connection, why: BaseException | str) -> None:
    """Note that the connection's transaction lost a statement, so that it cannot commit."""
    if connection.closed or _commits_by_itself(connection):
        return
    reason = why if isinstance(why, str) else type(why).__name__
    if not connection.invalidated:
        connection.info[ABORTED] = reason
    elif isinstance(connection, PooledConnection):
        # No connection is left to ask, and a session may have ended the transaction.
        connection.lost_transaction = reason


def clear_aborted(connection: Connection) -> None:
    """Forget the note: the part that lost a statement has been rolled back."""
    if not connection.invalidated:  # no note is left on it, and asking would connect anew
        connection.info.pop(ABORTED, None)
    if isinstance(connection, PooledConnection):
        connection.lost_transaction = None


def _error_of_commit(why: str) -> TransactionAborted:
    return TransactionAborted(
        f"A part of this transaction failed before ({why}), so nothing of it can be committed. "
        "Let the error leave the block, call the transaction's rollback(), or put what may "
        "fail into a transaction() of its own inside this one: that is a savepoint."
    )


def _watch_transactions(dialect: Dialect) -> None:
    # By the methods of the engine's own dialect. Listeners for the engine's events would notice
    # the same, but then every connection prepares for them: 20 us for each query.
    commit, rollback = dialect.do_commit, dialect.do_rollback
    rollback_to = dialect.do_rollback_to_savepoint

    def do_commit(pooled: PoolProxiedConnection) -> None:
        why = pooled.info.get(ABORTED)
        if why is not None:
            raise _error_of_commit(why)
        commit(pooled)

    def do_rollback(pooled: PoolProxiedConnection) -> None:
        # Also what the pool does to every connection that comes back.
        with suppress(NotImplementedError):  # SQLAlchemy's first look at a server is not pooled
            pooled.info.pop(ABORTED, None)
        rollback(pooled)

    def do_rollback_to_savepoint(connection: Connection, name: str) -> None:
        rollback_to(connection, name)
        clear_aborted(connection)  # not if the savepoint was lost together with everything

    for method in (do_commit, do_rollback, do_rollback_to_savepoint):
        setattr(dialect, method.__name__, method)


def _note_failure(context: ExceptionContext) -> None:
    connection, error = context.connection, context.original_exception
    dbapi = context.dialect.loaded_dbapi
    if connection is None or not isinstance(error, dbapi.Error) or context.is_disconnect:
        return
    if connection.in_transaction():
        mark_aborted(connection, error)


def _commits_by_itself(connection: Connection) -> bool:
    options = connection.get_execution_options()
    return options.get("isolation_level") == "AUTOCOMMIT" or bool(options.get(AUTOCOMMIT))
