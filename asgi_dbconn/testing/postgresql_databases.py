"""Test databases on a PostgreSQL server: created, dropped, and found after a crash."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError, DatabaseUnavailable
from asgi_dbconn.options import OptionArguments
from asgi_dbconn.pools.driver_errors import driver_error
from asgi_dbconn.testing.database_names import Mark
from asgi_dbconn.urls import DatabaseURL

__all__ = ["PostgreSQLServer"]

# The database does not exist, or the role may not use it: try another one of the same server.
_NOT_THIS_ONE: Final = frozenset({"3D000", "42501", "28000"})

_REMEDIES: Final = {
    "42501": "Allow the role to (ALTER ROLE ... CREATEDB), or use the URL of one that may.",
    "55006": "Close all connections to the template first.",
    "3D000": "Is the name of the template right?",
}

_MARKED: Final = """
    SELECT datname, shobj_description(oid, 'pg_database'),
           EXISTS (SELECT FROM pg_stat_activity WHERE pg_stat_activity.datname = d.datname)
    FROM pg_database d ORDER BY datname
"""


class PostgreSQLServer:
    """One server, used from a database that always exists there."""

    def __init__(self, url: DatabaseURL, options: OptionArguments) -> None:
        self._url = url
        self._options = options

    def url(self, name: str) -> DatabaseURL:
        return self._url.replace(database=name)

    async def make(self, name: str, template: str | None) -> None:
        """Create the database, as a copy of ``template`` if there is one.

        Raises ConfigurationError if the server refuses, DatabaseUnavailable if it does not run.
        After an error, call ``remove``: the database may exist.
        """
        copied = "" if template is None else f" TEMPLATE {_identifier(template)}"
        try:
            await self._execute(
                f"CREATE DATABASE {_identifier(name)}{copied}",
                f"COMMENT ON DATABASE {_identifier(name)} IS {_literal(Mark().text)}",
            )
        except DBAPIError as error:
            reason = driver_error(error)
            remedy = _REMEDIES.get(getattr(reason, "sqlstate", None) or "", "")
            raise ConfigurationError(
                f"The test database {name!r} could not be created on {self._url}: {reason}. "
                f"{remedy}".rstrip()
            ) from error

    async def remove(self, name: str) -> None:
        """Drop the database, even if it has connections; do nothing if it does not exist."""
        await self._execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    async def remove_run(self, run: str) -> list[str]:
        """Drop the databases that a run has left, even with connections; return the names."""
        return await self._remove_if(lambda mark, _: mark.run == run)

    async def remove_old(self, older_than: float) -> list[str]:
        """Drop the databases of at least that age without connections; return the names."""
        now = time.time()
        return await self._remove_if(
            lambda mark, is_used: not is_used and mark.is_left_over(older_than, now)
        )

    async def _remove_if(self, decide: Callable[[Mark, bool], bool]) -> list[str]:
        async with self._maintenance() as database:
            rows = await database.run(_fetch_marked, autocommit=True)
            found = [
                name
                for name, text, is_used in rows
                if (mark := Mark.read(text)) is not None and decide(mark, is_used)
            ]
            for name in found:
                drop = f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)"
                await database.run(partial(_execute, [drop]), autocommit=True)
        return found

    async def _execute(self, *statements: str) -> None:
        async with self._maintenance() as database:
            await database.run(partial(_execute, statements), autocommit=True)

    @asynccontextmanager
    async def _maintenance(self) -> AsyncIterator[Database]:
        # Not on template1 if possible: a connection to it blocks CREATE DATABASE, and other workers
        # create theirs at the same time.
        names = dict.fromkeys(("postgres", self._url.database, "template1"))
        refusals: list[DatabaseUnavailable] = []
        for name in names:
            options: OptionArguments = {**self._options, "pool_size": 1}
            database = Database(self._url.replace(database=name), name="maintenance", **options)
            try:
                await database.connect()
            except DatabaseUnavailable as refusal:
                if _sqlstate(refusal) not in _NOT_THIS_ONE:
                    raise
                refusals.append(refusal)
                continue
            try:
                yield database
            finally:
                await database.disconnect()
            return
        raise refusals[0]


def _execute(statements: Sequence[str], connection: Connection) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def _fetch_marked(connection: Connection) -> list[tuple[str, str | None, bool]]:
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(_MARKED)]


def _sqlstate(error: BaseException) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return state
        cause = cause.__cause__
    return None


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
