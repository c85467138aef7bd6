"""Creating and dropping tables, safely when several processes start at the same moment."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.databases.database import Database

__all__ = ["create_tables", "drop_tables"]

_LOCK: Final = 0x61736769  # any number that nobody else takes; "asgi" in ASCII


async def create_tables(database: Database, metadata: MetaData) -> None:
    """Create the tables of ``metadata`` that ``database`` does not have yet."""
    async with database.transaction() as transaction:
        await _wait_for_our_turn(transaction.connection)
        await transaction.connection.run_sync(metadata.create_all)


async def drop_tables(database: Database, metadata: MetaData) -> None:
    """Drop the tables of ``metadata``, with their rows, as far as ``database`` has them."""
    async with database.transaction() as transaction:
        await _wait_for_our_turn(transaction.connection)
        await transaction.connection.run_sync(metadata.drop_all)


async def _wait_for_our_turn(connection: AsyncConnection) -> None:
    # "Is it there? Then create it" is two steps, and another worker may come in between. SQLite
    # has taken its write lock at the beginning of the transaction.
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
