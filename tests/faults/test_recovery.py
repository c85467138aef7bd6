"""A server that refuses connections for a while, under load."""

from __future__ import annotations

import asyncio
import logging

import pytest

from asgi_dbconn import ConnectionLost, Database, DatabaseUnavailable, PoolTimeout
from tests.faults.backends import is_sleeping, kill_all, sleep_on
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking

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
        assert {type(outcome) for outcome in outcomes} <= {DatabaseUnavailable, PoolTimeout}
        await asyncio.to_thread(proxy.set_mode, "pass")
        await database.ping()  # the next attempt is not farther away than acquire_timeout


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
            with taking(most=2.5):
                await asyncio.gather(*waiting)

    (down, up) = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
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
        unavailable = pytest.raises(DatabaseUnavailable, match=r"acquire_timeout.*DBC200")
        with taking(0.4, most=0.95), unavailable:
            await database.ping()
        await asyncio.to_thread(proxy.set_mode, "pass")


async def test_a_statement_in_flight_is_not_repeated(
    proxy: Proxy, postgres: PostgresServer, postgres_url: str
) -> None:
    async with Database(proxy.url_for(postgres_url)) as database:
        working = asyncio.create_task(sleep_on(database, 60))
        await wait_until_async(lambda: is_sleeping(postgres, postgres_url), 5)
        await asyncio.to_thread(proxy.reset_connections)
        with pytest.raises(ConnectionLost, match="not known"):
            await working
        await database.ping()
    # The server notices a client that is gone only when it has something to say to it.
    kill_all(postgres, postgres_url)


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
