"""``max_connections``: a budget over all event loops of the process."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from asgi_dbconn import Database, PoolTimeout
from tests.faults.backends import kill_all
from tests.support.loop_thread import LoopThread
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.postgres

LOOPS, TASKS, QUERIES = 4, 5, 20
BUDGET = 8


@pytest.fixture
def other() -> Iterator[LoopThread]:
    """A loop that runs in another thread."""
    thread = LoopThread("test-other")
    yield thread
    thread.close()


def test_the_loops_of_a_process_share_what_it_may_have(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 41."""
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url, pool_size=5, max_connections=BUDGET)
    waits: list[float] = []

    async def work() -> None:
        for _ in range(QUERIES):
            started = time.perf_counter()
            async with database.connection() as connection:
                waits.append(time.perf_counter() - started)
                await connection.execute(text("SELECT pg_sleep(0.002)"))

    async def on_one_loop() -> None:
        async with database:
            together.wait(10)
            await asyncio.gather(*(work() for _ in range(TASKS)))

    together = threading.Barrier(LOOPS)
    threads = [threading.Thread(target=asyncio.run, args=[on_one_loop()]) for _ in range(LOOPS)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(postgres.sessions(database=name)))
    for worker in threads:
        worker.join()

    assert len(waits) == LOOPS * TASKS * QUERIES
    assert 5 < most <= BUDGET
    assert statistics.quantiles(waits, n=100)[98] < 2.0  # of acquire_timeout's five
    assert not database.is_connected


async def test_an_idle_connection_of_another_loop_is_given_up_at_once(
    postgres_url: str, other: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What only a busy loop may wait for is not waited for.
    monkeypatch.setattr("asgi_dbconn.pools.budget._RETURN_WAIT", 60.0)
    async with Database(postgres_url, pool_size=2, max_connections=2) as database:
        async with database.connection():
            async with database.engine.connect():
                pass
        assert database.stats().connects == 2  # both of this loop, and idle

        await asyncio.to_thread(other.run, database.ping())
        await database.ping()
        assert database.stats().connects == 3


async def test_a_busy_loop_gives_one_up_to_who_waits_for_long(
    postgres_url: str, other: LoopThread
) -> None:
    async with Database(postgres_url, pool_size=1, max_connections=1) as database:
        stop = asyncio.Event()

        async def work() -> None:
            while not stop.is_set():
                await database.ping()

        working = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.to_thread(other.run, database.ping())
        stop.set()
        await asyncio.gather(*working)


async def test_a_budget_that_is_spent_says_so(postgres_url: str, other: LoopThread) -> None:
    async with Database(
        postgres_url, pool_size=1, max_connections=1, acquire_timeout=0.3
    ) as database:
        async with database.engine.connect():
            with pytest.raises(PoolTimeout, match=r"max_connections.*0\.3\d s"):
                await asyncio.to_thread(other.run, database.ping())
        assert database.stats().timeouts == 1
        await asyncio.to_thread(other.run, database.ping())


async def test_connections_that_die_are_taken_off_the_budget(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with Database(
        postgres_url, pool_size=2, max_connections=2, idle_check_after=0, acquire_timeout=1
    ) as database:
        for _ in range(5):
            async with database.connection():
                async with database.engine.connect():
                    pass
            kill_all(postgres, postgres_url)
        await database.refresh()
        await database.ping()


async def test_a_cancelled_wait_for_the_budget_costs_nothing(
    postgres_url: str, other: LoopThread
) -> None:
    async with Database(postgres_url, pool_size=1, max_connections=1) as database:
        async with database.engine.connect():

            async def impatient() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await database.ping()

            await asyncio.to_thread(other.run, impatient())
        await asyncio.to_thread(other.run, database.ping())
        await database.ping()
