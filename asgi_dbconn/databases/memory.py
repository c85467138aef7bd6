"""SQLite databases that live in memory, for as long as they are connected.

A private ``:memory:`` database exists once per connection, and one connection for all mixes the
transactions of all tasks. SQLite's ``memdb`` file system gives a memory database a name, so that it
has a real pool, on any number of loops; it lives while one connection to it is open.
"""

from __future__ import annotations

import sqlite3
from itertools import count

from asgi_dbconn.urls import DatabaseURL

__all__ = ["MemoryKeeper", "named_memory"]

_numbers = count(1)


def named_memory(url: DatabaseURL) -> DatabaseURL:
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
        # Opened by one thread and closed by another, but never used by two at once.
        self._connection = sqlite3.connect(self._file, uri=True, check_same_thread=False)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
