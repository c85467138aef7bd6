"""Create and drop the tables of a database, safely when several processes start together.

A lock on the server makes them wait for each other.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.schema_translation import translate_schema

__all__ = ["create_tables", "drop_tables"]

_LOCK: Final = 0x61736769  # any number that no other program uses; "asgi" in ASCII


async def create_tables(database: Database, metadata: MetaData, schema: str | None) -> None:
    """Create the tables of ``metadata`` that ``database`` does not have yet, in ``schema``.

    Missing schemas are created, too: that one, and those that tables name by themselves.
    """
    async with database.transaction() as transaction:
        await _lock_tables(transaction.connection)
        await transaction.connection.run_sync(_create, metadata, schema)


async def drop_tables(database: Database, metadata: MetaData, schema: str | None) -> None:
    """Drop the tables of ``metadata``, with their rows, as far as ``database`` has them.

    In a schema only its own ones: a table that names a schema by itself is shared.
    """
    async with database.transaction() as transaction:
        await _lock_tables(transaction.connection)
        await transaction.connection.run_sync(_drop, metadata, schema)


def _create(connection: Connection, metadata: MetaData, schema: str | None) -> None:
    if connection.dialect.name == "postgresql":
        named = {table.schema for table in metadata.tables.values()} | {schema}
        for schema_name in sorted(name for name in named if name is not None):
            # Asked for first: to create one "if not exists" takes a right that the role may lack.
            if not inspect(connection).has_schema(schema_name):
                connection.execute(CreateSchema(schema_name, if_not_exists=True))
    with translate_schema(connection, schema):
        metadata.create_all(connection)


def _drop(connection: Connection, metadata: MetaData, schema: str | None) -> None:
    tables = [table for table in metadata.tables.values() if schema is None or table.schema is None]
    with translate_schema(connection, schema):
        metadata.drop_all(connection, tables=tables)


async def _lock_tables(connection: AsyncConnection) -> None:
    # "Is it there? Then create it" is two steps, and another worker may come in between. SQLite
    # has taken its write lock at the beginning of the transaction.
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
