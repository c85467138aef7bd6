"""The server's processes behind the connections of a database, one or many at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from asgi_dbconn import Database
from tests.support.postgres import PostgresServer, Session

__all__ = [
    "active",
    "alive",
    "backend",
    "backends",
    "is_sleeping",
    "kill_all",
    "pids",
    "sampled",
    "sleep_on",
]

_PACE = 0.005
"""Seconds between two samples: often enough to see every crowd, and cheap for the server."""


async def pids(database: Database, connections: int, *, first: str = "SELECT 1") -> set[int]:
    """The backends of so many connections that are held at the same time, after ``first``."""
    everybody = asyncio.Barrier(connections)

    async def one() -> int:
        async with database.connection() as connection:
            await connection.execute(text(first))
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await everybody.wait()
            return int(pid)

    return set(await asyncio.gather(*(one() for _ in range(connections))))


def kill_all(postgres: PostgresServer, url: str) -> None:
    """Return when the server has ended every session of the database."""
    postgres.terminate_sessions(database=_name(url))


def alive(postgres: PostgresServer, url: str) -> set[int]:
    """The backends of the database that the server knows."""
    return {session.pid for session in postgres.sessions(database=_name(url))}


def active(postgres: PostgresServer, url: str) -> list[str]:
    """The statements that the server is executing for the database."""
    sessions = postgres.sessions(database=_name(url))
    return [session.query for session in sessions if session.state == "active"]


@contextmanager
def sampled(postgres: PostgresServer, url: str) -> Iterator[list[int]]:
    """Count the backends of the database over and over while the block runs."""
    counts: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_PACE):
            counts.append(len(alive(postgres, url)))

    thread = threading.Thread(target=look, name="test-sampler")
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def _name(url: str) -> str:
    return url.rpartition("/")[2]


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
    return {session.pid for session in _sessions(postgres, url)}


def is_sleeping(postgres: PostgresServer, url: str) -> bool:
    """Whether one of them sleeps because it was told to."""
    return any(
        session.state == "active" and "pg_sleep" in session.query
        for session in _sessions(postgres, url)
    )


def _sessions(postgres: PostgresServer, url: str) -> list[Session]:
    return postgres.sessions(database=url.rpartition("/")[2])
