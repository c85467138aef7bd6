"""A server that refuses connections for a while, under load."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectionLost, Database, DatabaseUnavailable, PoolTimeout
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres


async def lose_connections(proxy: Proxy) -> None:
    await asyncio.to_thread(proxy.set_mode, "reset")


async def test_a_server_that_is_down_is_not_met_by_a_herd(proxy: Proxy, postgres_url: str) -> None:
    """Scenario 23: two hundred who wait, and some twenty attempts a second."""
    async with Database(
        proxy.url_for(postgres_url), pool_size=10, acquire_timeout=1.0, idle_check_after=0
    ) as database:
        await database.ping()
        await lose_connections(proxy)
        before = proxy.connections

        outcomes = await asyncio.gather(
            *(database.ping() for _ in range(200)), return_exceptions=True
        )

        assert proxy.connections - before <= 20
        assert {type(each) for each in outcomes} <= {DatabaseUnavailable, PoolTimeout}
        await asyncio.to_thread(proxy.set_mode, "pass")
        started = time.perf_counter()
        await database.ping()
        assert time.perf_counter() - started < 0.6


async def test_those_who_wait_are_served_when_the_server_is_back(
    proxy: Proxy, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Database(proxy.url_for(postgres_url), pool_size=4, idle_check_after=0) as database:
        await database.ping()
        await lose_connections(proxy)
        with caplog.at_level(logging.WARNING, "asgi_dbconn"):
            waiting = [asyncio.create_task(database.ping()) for _ in range(50)]
            await wait_until_async(lambda: database.stats().connect_errors >= 4 + 2, 5)
            await asyncio.to_thread(proxy.set_mode, "pass")
            started = time.perf_counter()
            await asyncio.gather(*waiting)
        assert time.perf_counter() - started < 1.0

    (down, up) = [record.getMessage() for record in caplog.records]
    assert "Trying again" in down
    assert "takes connections again" in up


async def test_a_server_that_stays_away_is_told_of_at_the_deadline(
    proxy: Proxy, postgres_url: str
) -> None:
    async with Database(
        proxy.url_for(postgres_url), pool_size=1, acquire_timeout=0.5, idle_check_after=0
    ) as database:
        await database.ping()
        await lose_connections(proxy)
        started = time.perf_counter()
        with pytest.raises(DatabaseUnavailable, match=r"acquire_timeout.*DBC200"):
            await database.ping()
        assert 0.4 < time.perf_counter() - started < 0.6
        await asyncio.to_thread(proxy.set_mode, "pass")


async def test_a_statement_in_flight_is_not_repeated(
    proxy: Proxy, postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    async with Database(proxy.url_for(postgres_url)) as database:

        async def work() -> None:
            async with database.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        working = asyncio.create_task(work())
        await wait_until_async(
            lambda: any("sleep" in each.query for each in postgres.sessions(database=name)), 5
        )
        await asyncio.to_thread(proxy.reset_connections)
        with pytest.raises(ConnectionLost, match="not known"):
            await working
        await database.ping()
        # The server notices a client that is gone only when it has something to say to it.
        postgres.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = $1 AND query LIKE '%sleep%'",
            name,
        )


async def test_a_cancelled_wait_lets_the_next_one_try(proxy: Proxy, postgres_url: str) -> None:
    async with Database(proxy.url_for(postgres_url), pool_size=2, idle_check_after=0) as database:
        await database.ping()
        await lose_connections(proxy)
        first = asyncio.create_task(database.ping())
        await wait_until_async(lambda: database.stats().connect_errors >= 1, 5)
        second = asyncio.create_task(database.ping())
        first.cancel()
        await asyncio.to_thread(proxy.set_mode, "pass")
        await second
        assert first.cancelled()
