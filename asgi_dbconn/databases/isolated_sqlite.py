"""SQLite, isolated: every BEGIN is ours, and becomes the beginning of a savepoint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from asgi_dbconn.databases.isolated_profile import Undo, refuse_another
from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects.sqlite import SQLiteProfile
from asgi_dbconn.pools.undo_log import UndoLog, keep_log

__all__ = ["IsolatedSQLite"]

_TRANSACTION: Final = "asgi_dbconn_transaction"
_numbers: Final = count(1)


class IsolatedSQLite(SQLiteProfile):
    """For one pool, which has one connection."""

    autocommit_options: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.undo_log = UndoLog(is_isolated=True)
        self._was_opened = False
        self._is_begun = False

    async def open(self, options: DatabaseOptions, *positional: Any, **arguments: Any) -> Any:
        refuse_another(self._was_opened)
        return await super().open(options, *positional, **arguments)

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        super().install(engine, options)
        event.listen(engine, "connect", self._begin_everything)
        event.listen(engine, "before_cursor_execute", self._begin, retval=True)
        for method in (self.do_commit, self.do_rollback):
            setattr(engine.dialect, method.__name__, method)

    async def mark(self, connection: Any) -> Undo:
        name = f"asgi_dbconn_mark_{next(_numbers)}"  # savepoints of one name hide each other
        await connection.execute_fetchall(f"SAVEPOINT {name}")
        return partial(_undo, connection, name)

    def do_commit(self, connection: PoolProxiedConnection) -> None:
        """In the place of the dialect's own."""
        self._finish(connection, f"RELEASE {_TRANSACTION}")

    def do_rollback(self, connection: PoolProxiedConnection) -> None:
        """In the place of the dialect's own."""
        self._finish(connection, f"ROLLBACK TO {_TRANSACTION}", f"RELEASE {_TRANSACTION}")

    def _begin_everything(self, connection: Any, record: ConnectionPoolEntry) -> None:
        keep_log(record, self.undo_log)
        self._was_opened = True
        _execute(connection, "BEGIN IMMEDIATE")

    def _begin(
        self, connection: Connection, _: Any, statement: str, parameters: Any, *__: Any
    ) -> tuple[str, Any]:
        if not statement.startswith("BEGIN "):
            return statement, parameters
        # SQLite rolls a whole transaction back by itself if a statement that writes is interrupted.
        # A savepoint outside of any is a transaction, and releasing it a commit.
        driver: Any = connection.connection.driver_connection
        refuse_another(not driver.in_transaction)
        self._is_begun = True
        return f"SAVEPOINT {_TRANSACTION}", parameters

    def _finish(self, connection: PoolProxiedConnection, *statements: str) -> None:
        # The pool rolls back whatever comes back to it, whether a transaction was begun or not.
        if self._is_begun:
            self._is_begun = False
            _execute(connection, *statements)


def _execute(connection: Any, *statements: str) -> None:
    cursor = connection.cursor()
    for each in statements:
        cursor.execute(each)
    cursor.close()


async def _undo(connection: Any, name: str) -> None:
    await connection.execute_fetchall(f"ROLLBACK TO {name}")
    await connection.execute_fetchall(f"RELEASE {name}")
