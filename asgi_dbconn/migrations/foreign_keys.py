"""Foreign keys of SQLite, which are off while a table is rebuilt, and have to hold afterwards.

Batch mode copies a table and drops the old one. With foreign keys on, that would delete the rows
that refer to it (ON DELETE CASCADE), or be refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sqlalchemy.engine import Connection

from asgi_dbconn.errors import MigrationError

__all__ = ["SQLiteForeignKeys"]


class SQLiteForeignKeys:
    """A check of each revision of one run; what was broken before may stay so."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._broken: Counter[tuple[str, str]] | None = None

    def check(self, revision: Callable[[], None]) -> None:
        """Call ``revision``; raises MigrationError if rows refer to nothing afterwards."""
        before = self._count() if self._broken is None else self._broken
        revision()
        self._broken = self._count()
        worse = self._broken - before
        if worse:
            counted = ", ".join(
                f"{count} of {table!r} to {parent!r}" for (table, parent), count in worse.items()
            )
            raise MigrationError(
                f"Foreign keys lead nowhere after this revision: {counted}. "
                "Delete or mend those rows in the revision itself."
            )

    def _count(self) -> Counter[tuple[str, str]]:
        rows = self._connection.exec_driver_sql("PRAGMA foreign_key_check")
        return Counter((table, parent) for table, _, parent, _ in rows)
