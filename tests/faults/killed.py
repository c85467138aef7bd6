"""A program that is killed while the server works for it; run by the tests."""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import text

from asgi_dbconn import Database


async def main(url: str) -> None:
    # The default is ten seconds; what the user sets himself counts.
    settings = {"client_connection_check_interval": "500ms"}
    async with Database(url, connect_args={"server_settings": settings}) as database:
        async with database.connection() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
