"""Transactions that lost a statement must not look committed.

PostgreSQL answers COMMIT with a silent ROLLBACK once a statement of the transaction failed, so
code that swallowed the error would lose its writes without a word. SQLite goes on as if nothing
had happened. Here both say so: the same program behaves the same on both.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.pools.dialects.sqlite import AUTOCOMMIT

__all__ = ["forget_aborted", "install", "note_aborted", "raise_if_aborted"]

_ABORTED: Final = "asgi_dbconn.aborted"


def install(engine: Engine) -> None:
    """Watch every connection of ``engine`` and of its views."""
    event.listen(engine, "handle_error", _note_failure)
    event.listen(engine, "rollback", forget_aborted)
    event.listen(engine, "rollback_savepoint", forget_aborted)
    event.listen(engine, "commit", raise_if_aborted)
    event.listen(engine, "checkin", _clean_slate)


def raise_if_aborted(connection: Connection) -> None:
    """Raise TransactionAborted if a part of the connection's transaction has failed."""
    if connection.invalidated:
        why = "its connection was given up" if connection.in_transaction() else None
    else:
        why = connection.info.get(_ABORTED)
    if why is not None:
        raise TransactionAborted(
            f"A part of this transaction failed before ({why}), so nothing of it can be committed. "
            "Let the error leave the block, call the transaction's rollback(), or put what may "
            "fail into a transaction() of its own inside this one: that is a savepoint."
        )


def note_aborted(connection: Connection, why: BaseException | str) -> None:
    """The connection's transaction lost a part of itself."""
    if not connection.closed and not connection.invalidated and not _commits_by_itself(connection):
        connection.info[_ABORTED] = why if isinstance(why, str) else type(why).__name__


def forget_aborted(connection: Connection, *_: Any) -> None:
    """What was lost has been taken back as a whole."""
    if not connection.invalidated:  # nothing is left on it; asking would connect anew
        connection.info.pop(_ABORTED, None)


def _note_failure(context: ExceptionContext) -> None:
    connection, error = context.connection, context.original_exception
    dbapi = context.dialect.loaded_dbapi
    if connection is None or not isinstance(error, dbapi.Error) or context.is_disconnect:
        return
    if connection.in_transaction():
        note_aborted(connection, error)


def _commits_by_itself(connection: Connection) -> bool:
    options = connection.get_execution_options()
    return options.get("isolation_level") == "AUTOCOMMIT" or bool(options.get(AUTOCOMMIT))


def _clean_slate(_: Any, record: ConnectionPoolEntry) -> None:
    record.info.pop(_ABORTED, None)  # the next one has nothing to do with it
