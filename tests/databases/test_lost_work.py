"""Queries that are cancelled, timed out or cut off end in their own error, not in a later one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectionLost, Database
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer

BLOCKS: dict[str, Callable[[Database], Any]] = {
    "connection": lambda database: database.connection(),
    "session": lambda database: database.session(),
    "transaction": lambda database: database.transaction(),
    "engine": lambda database: database.engine.connect(),
}


async def sleep_in(database: Database, block: str) -> None:
    if block == "verb":
        await database.run(lambda sync: sync.execute(text("SELECT pg_sleep(60)")), autocommit=True)
        return
    async with BLOCKS[block](database) as entered:
        executor = entered if hasattr(entered, "execute") else entered.connection
        await executor.execute(text("SELECT pg_sleep(60)"))


@pytest.fixture(params=[*BLOCKS, "verb"])
def block(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_timeout_is_a_timeout(postgres_url: str, block: str) -> None:
    async with Database(postgres_url, pool_size=1) as database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await sleep_in(database, block)
        await database.ping()


async def test_a_cancellation_is_a_cancellation(
    postgres: PostgresServer, postgres_url: str, block: str
) -> None:
    async with Database(postgres_url, pool_size=1) as database:
        task = asyncio.create_task(sleep_in(database, block))
        await wait_until_async(
            lambda: any("pg_sleep" in session.query for session in postgres.sessions()), 5
        )
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await database.ping()


async def test_a_lost_connection_says_so(
    postgres: PostgresServer, postgres_url: str, block: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    async with Database(postgres_url, pool_size=1) as database:
        task = asyncio.create_task(sleep_in(database, block))
        await wait_until_async(
            lambda: any("pg_sleep" in session.query for session in postgres.sessions()), 5
        )
        postgres.terminate_sessions(database=name)
        with pytest.raises(ConnectionLost, match="not known") as caught:
            await task
        assert isinstance(caught.value.__cause__, Exception)
        await database.ping()
