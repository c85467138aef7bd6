"""SQLite, isolated: every BEGIN is ours, and becomes the beginning of a savepoint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import ConnectionPoolEntry

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects.aiosqlite_adapter import AdaptedConnection, adapt
from asgi_dbconn.pools.dialects.isolated_profile import Undo, refuse_another
from asgi_dbconn.pools.dialects.sqlite import SQLiteProfile
from asgi_dbconn.pools.dialects.sqlite_transaction import Terms
from asgi_dbconn.pools.statement_lock import CANCEL_LIMIT, driver_of, lock_of
from asgi_dbconn.pools.undo_log import UndoLog, keep_log

__all__ = ["IsolatedSQLite"]

_TRANSACTION: Final = "asgi_dbconn_transaction"
_PATIENCE: Final = CANCEL_LIMIT - 0.5
"""Seconds for which a statement that writes is not interrupted: the isolation would be over."""
_numbers: Final = count(1)


class _IsolatedConnection(AdaptedConnection):
    """A connection whose transactions are savepoints in the one that has no end."""

    __slots__ = ()

    COMMIT = (f"RELEASE {_TRANSACTION}",)
    ROLLBACK = (f"ROLLBACK TO {_TRANSACTION}", f"RELEASE {_TRANSACTION}")

    def begin(self, terms: Terms) -> None:
        # SQLite rolls a whole transaction back by itself if a statement that writes is interrupted.
        # A savepoint outside of any is a transaction, and releasing it a commit.
        refuse_another(not self._connection.in_transaction)
        savepoint = None if terms.statement is None else f"SAVEPOINT {_TRANSACTION}"
        super().begin(Terms(savepoint, readonly=terms.readonly))


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
        adapt(connection, _IsolatedConnection)
        lock_of(connection).insists = True
        driver_of(connection).patience = _PATIENCE

    async def mark(self, connection: Any) -> Undo:
        refuse_another(not connection.in_transaction)
        name = f"asgi_dbconn_mark_{next(_numbers)}"  # savepoints of one name hide each other
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
