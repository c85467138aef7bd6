"""More work than connections: limits, order, deadlines, and nothing left of ten thousand uses."""

from __future__ import annotations

import asyncio
import gc
import re
import resource
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from asgi_dbconn import Database, PoolOverloaded, PoolTimeout
from tests.faults.backends import alive, pids, sampled
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking

pytestmark = pytest.mark.postgres

MEGABYTE = 1 << 20


@asynccontextmanager
async def held(database: Database, connections: int) -> AsyncIterator[None]:
    """So many tasks, "report 0" and on, have a connection each until the block ends."""
    leave = asyncio.Event()

    async def hold() -> None:
        async with database.connection() as connection:
            await connection.execute(text("SELECT :secret"), {"secret": "a customer's name"})
            await leave.wait()

    async with asyncio.TaskGroup() as holders:
        for number in range(connections):
            holders.create_task(hold(), name=f"report {number}")
        await wait_until_async(lambda: database.stats().acquired > connections, 5)
        yield
        leave.set()


async def test_exhaustion_is_told_in_time_and_in_full(postgres_url: str) -> None:
    """Scenario 25."""
    async with (
        Database(postgres_url, pool_size=2, acquire_timeout=0.3) as database,
        held(database, 2),
    ):
        other = asyncio.create_task(database.ping())
        with taking(0.3, most=0.9), pytest.raises(PoolTimeout) as caught:
            await database.ping()
        with pytest.raises(PoolTimeout) as others:
            await other

    told = f"{caught.value}\n{others.value}"
    assert re.search(r"2 \(pool_size\)", told)
    assert re.search(r"held longest by report 0 for 0\.[3-9] s, report 1 for", told)
    # The two came at the same moment; whoever was told first left the other one waiting.
    assert re.search(r"\b1 more", told)
    assert re.search(r"\b0 more", told)
    assert "customer" not in told
    assert "SELECT" not in told


async def test_a_full_queue_refuses_at_once(postgres_url: str) -> None:
    """Scenario 26."""
    took = []
    async with Database(postgres_url, pool_size=2, max_waiting=3) as database, held(database, 2):
        waiting = [asyncio.create_task(database.ping()) for _ in range(3)]
        await wait_until_async(lambda: database.stats().waiting == 3, 1)
        for _ in range(21):
            started = time.perf_counter()
            with pytest.raises(PoolOverloaded, match=r"3 .*max_waiting"):
                await database.ping()
            took.append(time.perf_counter() - started)
        assert database.stats().overloads == 21
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    assert statistics.median(took) < 0.005
    assert max(took) < 2.0  # of acquire_timeout's five


async def test_waiters_are_served_in_the_order_of_their_coming(postgres_url: str) -> None:
    """Scenario 27."""
    served: list[int] = []
    async with Database(postgres_url, pool_size=1) as database:

        async def work(number: int) -> None:
            async with database.connection() as connection:
                served.append(number)
                await connection.execute(text("SELECT 1"))

        async with asyncio.TaskGroup() as group, held(database, 1):
            for number in range(50):
                group.create_task(work(number))
            await wait_until_async(lambda: database.stats().waiting == 50, 1)

    assert served == list(range(50))


async def test_tasks_that_want_a_second_connection_are_told_at_their_deadline(
    postgres_url: str,
) -> None:
    """Scenario 28, with connections that are not the task's own: they lock each other out."""
    timeout = 0.5
    waits: list[float] = []
    async with Database(postgres_url, pool_size=5, acquire_timeout=timeout) as database:

        @asynccontextmanager
        async def acquired() -> AsyncIterator[None]:
            started = time.perf_counter()
            try:
                connection = await database.engine.connect()
            finally:
                waits.append(time.perf_counter() - started)
            try:
                await connection.execute(text("SELECT 1"))
                yield
            finally:
                await connection.close()

        async def work() -> None:
            async with acquired(), acquired():
                pass

        outcomes = await asyncio.gather(*(work() for _ in range(10)), return_exceptions=True)

        assert max(waits) < 2 * timeout  # a second deadline
        told = [outcome for outcome in outcomes if outcome is not None]
        assert {type(task) for task in told} == {PoolTimeout}
        assert (database.stats().in_use, database.stats().waiting) == (0, 0)
        assert len(await pids(database, 5)) == 5


async def test_tasks_that_ask_again_inside_their_transaction_share_its_connection(
    postgres_url: str,
) -> None:
    """Scenario 28, with blocks inside blocks of the same task."""
    async with Database(postgres_url, pool_size=5, acquire_timeout=1.0) as database:
        pid = text("SELECT pg_backend_pid()")
        inside = asyncio.Barrier(5)

        async def work() -> None:
            async with database.transaction() as outer:
                first = (await outer.connection.execute(pid)).scalar_one()
                await inside.wait()  # all connections are in use now
                async with database.connection() as connection:
                    assert (await connection.execute(pid)).scalar_one() == first
                async with database.transaction() as inner:
                    assert (await inner.connection.execute(pid)).scalar_one() == first

        await asyncio.gather(*(work() for _ in range(10)))
        assert database.stats().timeouts == 0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_ten_thousand_uses_leave_nothing_behind(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 29."""
    async with Database(postgres_url, pool_size=10) as database:

        async def work(uses: int) -> None:
            for number in range(uses):
                if number % 2:
                    await database.ping()
                else:
                    async with database.connection() as connection:
                        await connection.execute(text("SELECT 1"))

        async def all_of(uses: int) -> None:
            await asyncio.gather(*(work(uses // 100) for _ in range(100)))
            gc.collect()

        with sampled(postgres, postgres_url) as samples:
            await all_of(2_000)
            before, acquired = resident_bytes(), database.stats().acquired
            await all_of(10_000)
            grown = resident_bytes() - before

        now = database.stats()
        assert now.acquired - acquired == 10_000
        assert (now.in_use, now.waiting, now.idle, now.connects) == (0, 0, 10, 10)
        assert len(samples) > 20
        assert max(samples) == 10
        assert grown < 5 * MEGABYTE
        assert len(await pids(database, 10)) == 10


async def test_a_burst_opens_no_more_connections_than_there_are_places(
    postgres: PostgresServer, proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 30."""
    async with Database(proxy.url_for(postgres_url), pool_size=5) as database:

        async def work() -> None:
            for _ in range(50):
                await database.ping()

        await asyncio.gather(*(work() for _ in range(15)))

        assert database.stats().connects == 5
        assert len(alive(postgres, postgres_url)) == 5
    assert proxy.connections == 5
