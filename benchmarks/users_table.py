"""The one table that every contender of `queries` works on, seen from the server's side."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.contenders.work import COLUMNS, PAGE, TABLE, USERS, user
from tests.support.postgres import PostgresServer

__all__ = ["UsersTable"]

_FILL: Final = f"""
    INSERT INTO users ({", ".join(COLUMNS)})
    SELECT * FROM unnest(
        $1::int[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::float[], $7::timestamptz[],
        $8::text[]
    )
"""


class UsersTable:
    """Made and filled in the database of ``url``, before a contender gets to know it."""

    KEY: Final = 389
    """The user whom everybody has to find."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._server = server
        self._database = urlsplit(url).path.removeprefix("/")
        users = [user(key) for key in range(1, USERS + 1)]
        self._execute(TABLE)
        columns = [[user[column] for user in users] for column in COLUMNS]
        server.fetch(_FILL, *columns, database=self._database)
        self._execute(f"SELECT setval(pg_get_serial_sequence('users', 'id'), {USERS})")
        # Without statistics the planner may choose another plan halfway through.
        self._execute("VACUUM ANALYZE users")

    def restore(self) -> None:
        """Take back what was created and changed, down to its last trace."""
        self._execute(f"DELETE FROM users WHERE id > {USERS}")
        self._execute("UPDATE users SET age = id % 100 WHERE age <> id % 100")
        self._execute("VACUUM users")

    async def restored(self) -> None:
        """The same, for whoever awaits it; it does not suspend."""
        self.restore()

    def check(self, name: str, seen: Mapping[str, Any]) -> None:
        """RuntimeError if a contender saw or stored anything else than the table tells."""
        (created,) = self._server.fetch(
            "SELECT * FROM users WHERE id = $1", seen["created"], database=self._database
        )
        expected = {
            "page": [_plain(user(number)) for number in range(1, PAGE + 1)],
            "one": _plain(user(self.KEY)),
            "count": USERS,
            "changed": _plain(dict(created)),
        }
        wrong = [what for what, value in expected.items() if seen[what] != value]
        if created["age"] != 99 or created["id"] <= USERS:
            wrong.append("created")
        if wrong:
            raise RuntimeError(
                f"{name} does not do what the others do ({', '.join(wrong)}), "
                "so its times would mean nothing."
            )

    def _execute(self, sql: str) -> None:
        self._server.execute(sql, database=self._database)


def _plain(row: Mapping[str, Any]) -> list[Any]:
    values = [row[column] for column in COLUMNS]
    return [
        value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for value in values
    ]
