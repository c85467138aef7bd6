"""A network that swallows everything: deadlines hold, and nobody starves when it comes back."""

from __future__ import annotations

import asyncio
import time

import pytest

from asgi_dbconn import ConnectionLost, ConnectTimeout, Database, PoolTimeout
from tests.faults.crowds import pids
from tests.support.leftovers import wait_until_async
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres

# In the queue it is the pool that had no connection in time; at its head, the server.
OUT_OF_TIME = (PoolTimeout, ConnectTimeout)


async def test_an_acquire_on_a_dead_network_keeps_its_deadline_again_and_again(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 15."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=2, acquire_timeout=0.4, idle_check_after=0) as database:
        await pids(database, 2)
        await asyncio.to_thread(proxy.set_mode, "stall")
        for _ in range(10):
            started = time.perf_counter()
            with pytest.raises(OUT_OF_TIME):
                await database.ping()
            assert 0.3 < time.perf_counter() - started < 0.5

        await asyncio.to_thread(proxy.set_mode, "pass")
        started = time.perf_counter()
        await database.ping()
        assert time.perf_counter() - started < 0.2


async def test_a_deadline_covers_the_question_to_an_idle_connection_and_a_new_one(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 15, with a deadline beyond the limit of the question, which is a second."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, acquire_timeout=1.3, idle_check_after=0) as database:
        await asyncio.to_thread(proxy.set_mode, "stall")
        started = time.perf_counter()
        with pytest.raises(OUT_OF_TIME):
            await database.ping()
        assert 1.2 < time.perf_counter() - started < 1.4
        assert proxy.connections == 2

        await asyncio.to_thread(proxy.set_mode, "pass")
        started = time.perf_counter()
        await database.ping()
        assert time.perf_counter() - started < 0.2


async def test_a_crowd_on_a_dead_network_is_told_in_time_and_served_when_it_heals(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 18."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=5, acquire_timeout=1.0, idle_check_after=0) as database:
        await pids(database, 5)
        before = asyncio.all_tasks()

        async def told_after() -> float:
            started = time.perf_counter()
            with pytest.raises(OUT_OF_TIME):
                await database.ping()
            return time.perf_counter() - started

        await asyncio.to_thread(proxy.set_mode, "stall")
        stalled_at = time.perf_counter()
        while time.perf_counter() - stalled_at < 5:
            took = await asyncio.gather(*(told_after() for _ in range(100)))
            assert max(took) < 1.1
        await asyncio.to_thread(proxy.set_mode, "pass")
        healed_at = time.perf_counter()
        await asyncio.gather(*(database.ping() for _ in range(100)))
        assert time.perf_counter() - healed_at < 1

        await wait_until_async(lambda: asyncio.all_tasks() <= before, 3)
        assert (database.stats().in_use, database.stats().waiting) == (0, 0)
        assert len(await pids(database, 5)) == 5


async def test_a_waiter_does_not_starve_after_somebody_elses_failed_connect(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 19."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, connect_timeout=0.4, idle_check_after=60) as database:
        proxy.reset_connections()  # our loop stands still, and has not noticed
        with pytest.raises(ConnectionLost):
            await database.ping()
        await asyncio.to_thread(proxy.set_mode, "stall")
        first = asyncio.create_task(database.ping())
        second = asyncio.create_task(database.ping())
        await wait_until_async(lambda: database.stats().waiting == 1, 1)
        tried = proxy.connections
        with pytest.raises(ConnectTimeout):
            await first
        # It is the second one's turn, and it knocks at the dead network as well.
        await wait_until_async(lambda: proxy.connections > tried, 1)
        await asyncio.to_thread(proxy.set_mode, "pass")
        async with asyncio.timeout(0.5):
            await second
