"""A sqlite3 connection that tracks its unfinished cursors.

SQLite keeps a lock, and an interrupt in force, for as long as one statement is not finished. Not
even close() ends it while its cursor exists. So the connection keeps weak references to them.
"""

from __future__ import annotations

import sqlite3
from typing import Any
from weakref import ref

__all__ = ["TrackedConnection", "TrackedCursor", "close_cursors"]


class TrackedConnection(sqlite3.Connection):
    """A connection of one thread that notes every cursor whose statement may have rows left."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.unfinished: set[ref[Any]] = set()
        """The cursors, and the blobs. May be read from any thread."""

    def cursor(self, factory: Any = None) -> Any:
        if factory is None:
            return super().cursor(TrackedCursor)
        cursor: Any = super().cursor(factory)
        # A cursor of another class counts as unfinished for as long as it exists.
        self.unfinished.add(ref(cursor, self.unfinished.discard))
        return cursor

    # sqlite3 makes the cursors of these three without asking cursor().

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self.cursor().executemany(*arguments)

    def executescript(self, *arguments: Any) -> Any:
        return self.cursor().executescript(*arguments)

    def blobopen(self, *arguments: Any, **named: Any) -> Any:
        blob = super().blobopen(*arguments, **named)
        self.unfinished.add(ref(blob, self.unfinished.discard))
        return blob


class TrackedCursor(sqlite3.Cursor):
    """A cursor that its connection notes from the first row to the last."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._unfinished: set[ref[Any]] = connection.unfinished
        self._ref = ref(self, self._unfinished.discard)

    def execute(self, *arguments: Any) -> TrackedCursor:
        self._unfinished.discard(self._ref)  # a failed statement has no rows left
        super().execute(*arguments)
        if self.description is not None:
            self._unfinished.add(self._ref)
        return self

    def fetchone(self) -> Any:
        row = super().fetchone()
        if row is None:
            self._unfinished.discard(self._ref)
        return row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self.arraysize if size is None else size
        rows = super().fetchmany(size)
        if len(rows) < size:
            self._unfinished.discard(self._ref)
        return rows

    def fetchall(self) -> list[Any]:
        rows = super().fetchall()
        self._unfinished.discard(self._ref)
        return rows

    def close(self) -> None:
        self._unfinished.discard(self._ref)
        super().close()


def close_cursors(unfinished: set[ref[Any]]) -> list[Any]:
    """Close the ``unfinished`` cursors, in the thread of their connection, and return them."""
    closed = []
    for reference in list(unfinished):
        cursor = reference()
        if cursor is not None:
            cursor.close()
            closed.append(cursor)
    unfinished.clear()
    return closed
