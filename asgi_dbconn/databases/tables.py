"""Creating and dropping tables, safely when several processes start at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import MetaData, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from asgi_dbconn.databases.database import Database

__all__ = ["create_tables", "drop_tables"]

_MAP: Final = "schema_translate_map"
_LOCK: Final = 0x61736769  # any number that nobody else takes; "asgi" in ASCII


async def create_tables(database: Database, metadata: MetaData, schema: str | None) -> None:
    """Create the tables of ``metadata`` that ``database`` does not have yet, in ``schema``."""
    async with database.transaction() as transaction:
        connection = transaction.connection
        await _wait_for_our_turn(connection)
        if schema is not None:
            await connection.execute(CreateSchema(schema, if_not_exists=True))
        await connection.run_sync(_in_schema, schema, metadata.create_all)


async def drop_tables(database: Database, metadata: MetaData, schema: str | None) -> None:
    """Drop the tables of ``metadata``, with their rows, as far as ``database`` has them."""
    async with database.transaction() as transaction:
        connection = transaction.connection
        await _wait_for_our_turn(connection)
        await connection.run_sync(_in_schema, schema, metadata.drop_all)


def _in_schema(
    connection: Connection, schema: str | None, work: Callable[[Connection], None]
) -> None:
    # The connection may be that of an outer scope, which goes on with its own schema.
    before = connection.get_execution_options().get(_MAP)
    connection.execution_options(**{_MAP: None if schema is None else {None: schema}})
    try:
        work(connection)
    finally:
        connection.execution_options(**{_MAP: before})


async def _wait_for_our_turn(connection: AsyncConnection) -> None:
    # "Is it there? Then create it" is two steps, and another worker may come in between. SQLite
    # has taken its write lock at the beginning of the transaction.
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
