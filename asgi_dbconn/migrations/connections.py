"""The connection that migrates a database: beside the application's pool, without its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from asgi_dbconn.databases.database import Database, dedicated
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.errors import ConfigurationError, MigrationError, TransactionError
from asgi_dbconn.pools.dialects.profile import AUTOCOMMIT, WRITES

__all__ = ["SQLiteForeignKeys", "migration_connection"]


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


@asynccontextmanager
async def migration_connection(
    database: Database, schema: str | None, *, create_schema: bool
) -> AsyncIterator[AsyncConnection]:
    """Connect to ``database`` for the block, whether or not others are connected.

    The connection is in no transaction yet, and has a session of its own: whatever a revision sets
    for it ends with it. A memory database is used as it is, and has to be connected.
    """
    if current_scope(database) is not None:
        raise TransactionError(
            f"A scope of database {database.name or 'default'!r} is open here, and migrations take "
            "a connection and transactions of their own, which would wait for it. Call them "
            "outside of connection(), session() and transaction()."
        )
    if database.is_isolated:
        raise TransactionError(
            f"Database {database.name or 'default'!r} is isolated (models.rollback(), "
            "force_rollback()), which ends with a rollback of everything. Migrate before."
        )
    if database.url.is_memory:
        async with database.connection() as connection:
            await _let_foreign_keys_rest(connection)
            try:
                yield connection
            finally:
                await connection.invalidate()  # the pool gets a new one
        return
    # A query_timeout is for requests; building an index takes as long as it takes.
    own = dedicated(database, query_timeout=None)
    async with own, own.connection() as connection:
        if database.url.dialect == "sqlite":
            await _let_foreign_keys_rest(connection)
        elif schema is not None:
            if database.options.pgbouncer:
                raise ConfigurationError(
                    f"A schema is migrated by setting the session's search_path, and database "
                    f"{database.name or 'default'!r} is behind PgBouncer (pgbouncer=True), which "
                    "has no sessions. Migrate through a URL that leads to the server itself."
                )
            await connection.run_sync(partial(_move_to_schema, schema=schema, create=create_schema))
            await connection.commit()
        yield connection


async def _let_foreign_keys_rest(connection: AsyncConnection) -> None:
    # Inside of a transaction SQLite ignores this.
    await connection.execution_options(**{AUTOCOMMIT: True})
    # The wait for a lock is ours, and longer: the driver cannot be cancelled while it waits.
    await connection.exec_driver_sql("PRAGMA busy_timeout=500")
    await connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    await connection.commit()
    await connection.execution_options(**{AUTOCOMMIT: False, WRITES: True})


def _move_to_schema(connection: Connection, *, schema: str, create: bool) -> None:
    if create and not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
    connection.execute(text("SELECT set_config('search_path', :path, false)"), {"path": quoted})
    # The engine is this connection's own, and so is its dialect. Alembic asks that, and not the
    # server, which schema is the one that needs no name.
    connection.dialect.default_schema_name = schema
