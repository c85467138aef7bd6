"""A network that swallows everything: deadlines hold, and nobody starves when it comes back."""

from __future__ import annotations

import asyncio

import pytest

from asgi_dbconn import ConnectionLost, ConnectTimeout, Database, PoolTimeout
from tests.faults.backends import pids
from tests.support.leftovers import wait_until_async
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking

pytestmark = pytest.mark.postgres

# In the queue it is the pool that had no connection in time; at its head, the server.
OUT_OF_TIME = (PoolTimeout, ConnectTimeout)


async def heal(proxy: Proxy, database: Database, crowd: int = 1) -> None:
    """The network is back, and all are served: in time, or they would be out of it."""
    await asyncio.to_thread(proxy.set_mode, "pass")
    await asyncio.gather(*(database.ping() for _ in range(crowd)))


async def test_an_acquire_on_a_dead_network_keeps_its_deadline_again_and_again(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 15."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=2, acquire_timeout=0.6, idle_check_after=0) as database:
        await pids(database, 2)
        await asyncio.to_thread(proxy.set_mode, "stall")
        for _ in range(6):
            with taking(0.5, most=1.1), pytest.raises(OUT_OF_TIME):  # no second deadline
                await database.ping()
        await heal(proxy, database)


async def test_a_deadline_covers_the_question_to_an_idle_connection_and_a_new_one(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 15, with a deadline beyond the limit of the question, which is a second."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, acquire_timeout=1.3, idle_check_after=0) as database:
        await asyncio.to_thread(proxy.set_mode, "stall")
        with taking(1.2, most=2.2), pytest.raises(OUT_OF_TIME):  # 2.3 is one after the other
            await database.ping()
        assert proxy.connections == 2
        await heal(proxy, database)


async def test_a_crowd_on_a_dead_network_is_told_in_time_and_served_when_it_heals(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 18."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=5, acquire_timeout=1.5, idle_check_after=0) as database:
        await pids(database, 5)
        before = asyncio.all_tasks()

        async def be_told() -> None:
            with taking(1.4, most=2.8), pytest.raises(OUT_OF_TIME):
                await database.ping()

        await asyncio.to_thread(proxy.set_mode, "stall")
        for _ in range(3):
            await asyncio.gather(*(be_told() for _ in range(100)))
        await heal(proxy, database, crowd=100)

        await wait_until_async(lambda: asyncio.all_tasks() <= before, 3)
        assert (database.stats().in_use, database.stats().waiting) == (0, 0)
        assert len(await pids(database, 5)) == 5


async def test_a_waiter_does_not_starve_after_somebody_elses_failed_connect(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 19."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, connect_timeout=1.0, idle_check_after=60) as database:
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
        # Its own attempt goes on; else it would wait until its acquire_timeout of five seconds.
        async with asyncio.timeout(3):
            await second
