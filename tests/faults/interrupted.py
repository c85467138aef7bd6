"""A program that ends in the middle of its queries; run by the tests, and sent a signal."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from sqlalchemy import text

from asgi_dbconn import Database

ACTIVE = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
)


async def query(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(text("SELECT pg_sleep(60)"))


async def leave(database: Database) -> None:
    """Have a connection in hand, and end the program while the others wait for their answers."""
    async with database.connection() as connection:
        while (await connection.execute(ACTIVE)).scalar_one() < 3:
            await connection.rollback()  # a transaction sees the same activity all the time
            await asyncio.sleep(0.01)
        sys.exit(3)


async def main(way: str, url: str) -> None:
    async with Database(url, pool_size=4, shutdown_timeout=1) as database:
        last = leave(database) if way == "leaving" else query(database)
        with suppress(SystemExit):  # asyncio.run() raises it, too
            await asyncio.gather(query(database), query(database), last)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
