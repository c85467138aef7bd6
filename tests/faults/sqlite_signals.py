"""SQL functions by which a test sees what SQLite's thread is at, and holds it there."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

from sqlalchemy import text

from asgi_dbconn import Database

ENDLESS = text(
    "WITH RECURSIVE n(i) AS (SELECT started() UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) "
    "SELECT max(i) FROM n"
)
"""Reads for longer than anybody waits, and can be interrupted."""
ENDLESS_WRITE = text(
    "WITH RECURSIVE n(i) AS (SELECT started() UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) "
    "INSERT INTO t SELECT i FROM n WHERE i < 0 OR i > 1999999999"
)
HELD_READ = text("SELECT held()")
HELD_WRITE = text("INSERT INTO t VALUES (held())")
"""Goes on when it is released; cannot be interrupted before."""


class Signals:
    """For a database whose pool has one connection."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self.released = threading.Event()

    async def install(self, database: Database) -> None:
        async with database.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            await driver.create_function("started", 0, self._start)
            await driver.create_function("held", 0, self._hold)

    async def started(self) -> None:
        """Wait until a statement is executed that says so, or is held."""
        assert await asyncio.to_thread(self._started.wait, 10)
        self._started.clear()

    def _start(self) -> int:
        self._started.set()
        return 1

    def _hold(self) -> int:
        self._started.set()
        self.released.wait(20)
        return 7


async def can_write(url: str, seconds: float = 1.0) -> bool:
    """Whether somebody who knows nothing of the pool gets the file's write lock."""

    def write() -> bool:
        other = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=seconds)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        finally:
            other.close()
        return True

    return await asyncio.to_thread(write)


async def numbers(database: Database) -> list[int]:
    """What is stored in ``t``, in order."""
    async with database.connection() as connection:
        return list((await connection.execute(text("SELECT n FROM t ORDER BY n"))).scalars())


async def make_table(database: Database, *values: int) -> None:
    async with database.transaction() as transaction:
        await transaction.connection.execute(text("CREATE TABLE t (n int)"))
        for value in values:
            await transaction.connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": value})
