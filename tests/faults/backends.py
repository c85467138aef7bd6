"""Which of the server's processes work for a database, as it sees it and as the server does."""

from __future__ import annotations

import time

from sqlalchemy import text

from asgi_dbconn import Database
from tests.support.postgres import PostgresServer, Session

__all__ = ["backend", "backends", "is_sleeping", "sleep_on"]


async def backend(database: Database) -> int:
    """The process behind a connection of this loop's pool."""
    async with database.connection() as connection:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def sleep_on(database: Database, seconds: float) -> float:
    """Let the server sleep; the time when it woke up, with the connection still in use."""
    async with database.connection() as connection:
        await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        return time.perf_counter()


def backends(postgres: PostgresServer, url: str) -> set[int]:
    """The processes of all connections to the database that ``url`` names."""
    return {each.pid for each in _sessions(postgres, url)}


def is_sleeping(postgres: PostgresServer, url: str) -> bool:
    """Whether one of them sleeps because it was told to."""
    return any(
        each.state == "active" and "pg_sleep" in each.query for each in _sessions(postgres, url)
    )


def _sessions(postgres: PostgresServer, url: str) -> list[Session]:
    return postgres.sessions(database=url.rpartition("/")[2])
