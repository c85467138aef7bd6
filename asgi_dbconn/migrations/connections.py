"""The connection that migrates a database: outside of the application's pool and its limits.

Foreign keys of SQLite are off on it, and are checked after each revision. Batch mode copies a table
and drops the old one. With foreign keys on, that would delete the rows that refer to it (ON DELETE
CASCADE), or be refused.
"""

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
    """A check of the foreign keys after each revision of a run; earlier violations may stay."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._broken: Counter[tuple[str, str]] | None = None

    def check(self, revision: Callable[[], None]) -> None:
        """Call ``revision``; raise MigrationError if it has left rows that refer to no row."""
        before = self._count() if self._broken is None else self._broken
        revision()
        self._broken = self._count()
        worse = self._broken - before
        if worse:
            counted = ", ".join(
                f"{count} of {table!r} to {parent!r}" for (table, parent), count in worse.items()
            )
            raise MigrationError(
                f"Foreign keys refer to missing rows after this revision: {counted}. "
                "Delete or correct those rows in the revision itself."
            )

    def _count(self) -> Counter[tuple[str, str]]:
        rows = self._connection.exec_driver_sql("PRAGMA foreign_key_check")
        return Counter((table, parent) for table, _, parent, _ in rows)


@asynccontextmanager
async def migration_connection(
    database: Database, schema: str | None, *, create_schema: bool
) -> AsyncIterator[AsyncConnection]:
    """Connect to ``database`` for the block, whether or not it is connected otherwise.

    The connection is in no transaction yet. It has a session of its own, so settings of a revision
    end with it. A memory database is used through its own pool, and has to be connected.
    """
    if current_scope(database) is not None:
        raise TransactionError(
            f"A scope of database {database.name or 'default'!r} is open here, and migrations use "
            "a connection and transactions of their own, which would wait for it. Call them "
            "outside of connection(), session() and transaction()."
        )
    if database.is_isolated:
        raise TransactionError(
            f"Database {database.name or 'default'!r} is isolated (models.rollback(), "
            "force_rollback()), which rolls back everything at its end. Migrate before."
        )
    if database.url.is_memory:
        async with database.connection() as connection:
            await _disable_foreign_keys(connection)
            try:
                yield connection
            finally:
                await connection.invalidate()  # the pool gets a new one
        return
    # A query_timeout is for requests; building an index may take longer.
    own = dedicated(database, query_timeout=None)
    async with own, own.connection() as connection:
        if database.url.dialect == "sqlite":
            await _disable_foreign_keys(connection)
        elif schema is not None:
            if database.options.pgbouncer:
                raise ConfigurationError(
                    f"A schema is migrated by setting the session's search_path, and database "
                    f"{database.name or 'default'!r} is behind PgBouncer (pgbouncer=True), which "
                    "has no sessions. Migrate through the URL of the server itself."
                )
            await connection.run_sync(
                partial(_set_search_path, schema=schema, create=create_schema)
            )
            await connection.commit()
        yield connection


async def _disable_foreign_keys(connection: AsyncConnection) -> None:
    # Outside of a transaction: inside of one SQLite ignores the pragma.
    await connection.execution_options(**{AUTOCOMMIT: True})
    # Short: we wait for a lock ourselves, and the driver cannot be cancelled while it waits.
    await connection.exec_driver_sql("PRAGMA busy_timeout=500")
    await connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    await connection.commit()
    await connection.execution_options(**{AUTOCOMMIT: False, WRITES: True})


def _set_search_path(connection: Connection, *, schema: str, create: bool) -> None:
    if create and not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
    connection.execute(text("SELECT set_config('search_path', :path, false)"), {"path": quoted})
    # Alembic reads the default schema from the dialect, not from the server. The engine belongs to
    # this connection alone, and so does the dialect.
    connection.dialect.default_schema_name = schema
