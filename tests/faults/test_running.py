"""Faults while the application runs: the numbers are those of the pool scenarios."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from asgi_dbconn import ConnectionLost, Database, PoolOverloaded, PoolTimeout
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres


async def pids(database: Database, connections: int) -> set[int]:
    """The backends behind so many connections, held at the same time."""
    everybody = asyncio.Barrier(connections)

    async def one() -> int:
        async with database.connection() as connection:
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await everybody.wait()
            return int(pid)

    return set(await asyncio.gather(*(one() for _ in range(connections))))


def kill_all(postgres: PostgresServer, url: str) -> None:
    postgres.fetch(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1",
        url.rpartition("/")[2],
    )


async def test_idle_connections_that_were_killed_are_replaced_unseen(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """11, with connections that lay idle."""
    async with Database(postgres_url, pool_size=4, idle_check_after=0) as database:
        before = await pids(database, 4)
        kill_all(postgres, postgres_url)

        await asyncio.gather(*(database.ping() for _ in range(20)))

        assert not before & await pids(database, 4)


async def test_fresh_connections_that_were_killed_fail_once_each_and_by_name(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """11, with connections that were used a moment ago."""
    async with Database(postgres_url, pool_size=4, idle_check_after=60) as database:
        await pids(database, 4)
        kill_all(postgres, postgres_url)

        lost = 0
        for _ in range(20):
            try:
                await database.ping()
            except ConnectionLost:
                lost += 1

        assert 1 <= lost <= 4
        await database.ping()


async def test_an_acquire_on_a_dead_network_keeps_its_deadline_again_and_again(
    proxy: Proxy, postgres_url: str
) -> None:
    """15."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=2, acquire_timeout=1.0, idle_check_after=0) as database:
        await pids(database, 2)
        await asyncio.to_thread(proxy.set_mode, "stall")
        for _ in range(10):
            started = time.perf_counter()
            with pytest.raises(TimeoutError):
                await database.ping()
            assert time.perf_counter() - started < 1.1

        await asyncio.to_thread(proxy.set_mode, "pass")
        started = time.perf_counter()
        await database.ping()
        assert time.perf_counter() - started < 0.2


async def test_a_reset_network_is_a_lost_connection_and_then_a_new_one(
    proxy: Proxy, postgres_url: str
) -> None:
    """17."""
    async with Database(proxy.url_for(postgres_url), idle_check_after=60) as database:
        await asyncio.to_thread(proxy.reset_connections)
        with pytest.raises(ConnectionLost):
            await database.ping()
        await database.ping()


async def test_a_waiter_does_not_starve_after_somebody_elses_failed_connect(
    proxy: Proxy, postgres_url: str
) -> None:
    """19."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, connect_timeout=0.3, idle_check_after=60) as database:
        await asyncio.to_thread(proxy.reset_connections)
        with pytest.raises(ConnectionLost):
            await database.ping()
        await asyncio.to_thread(proxy.set_mode, "stall")
        first = asyncio.create_task(database.ping())
        second = asyncio.create_task(database.ping())
        with pytest.raises(TimeoutError):
            await first
        await asyncio.to_thread(proxy.set_mode, "pass")
        async with asyncio.timeout(0.5):
            await second


async def test_a_demoted_primary_fails_one_write_and_no_more(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """20: every connection leads to a server that turned read-only; new ones do not."""
    name = postgres_url.rpartition("/")[2]
    async with Database(postgres_url, pool_size=4) as database:
        async with database.transaction() as transaction:
            await transaction.connection.execute(text("CREATE TABLE t (n int)"))
        postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await database.refresh()
        await pids(database, 4)
        postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')

        async def write() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(text("INSERT INTO t VALUES (1)"))

        with pytest.raises(ConnectionLost, match="read-only"):
            await write()
        for _ in range(8):
            await write()


async def test_a_read_only_transaction_of_ones_own_is_no_lost_connection(postgres_url: str) -> None:
    async with Database(postgres_url, pool_size=1) as database:
        before = await pids(database, 1)
        with pytest.raises(DBAPIError, match="read-only"):
            async with database.transaction(readonly=True) as transaction:
                await transaction.connection.execute(text("CREATE TABLE t (n int)"))
        assert await pids(database, 1) == before


@pytest.mark.parametrize(("idle_check_after", "pings"), [(0.0, 1), (60.0, 0)])
async def test_an_idle_connection_is_asked_once_and_a_fresh_one_never(
    proxy: Proxy, postgres_url: str, idle_check_after: float, pings: int
) -> None:
    """21."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, idle_check_after=idle_check_after) as database:
        await database.ping()
        with proxy.counting() as counted:
            await database.ping()

    assert counted.round_trips == 1 + pings


async def test_old_connections_are_replaced(postgres_url: str) -> None:
    """22: by their age; the jitter is seen in when each of them goes."""
    async with Database(postgres_url, pool_size=2, max_lifetime=0.3) as database:
        before = await pids(database, 2)
        assert await pids(database, 2) == before
        loop = asyncio.get_running_loop()
        old_at = loop.time() + 0.3
        await wait_until_async(lambda: loop.time() > old_at, 2)
        assert not before & await pids(database, 2)


async def test_refresh_renews_every_connection_under_load(postgres_url: str) -> None:
    """24."""
    async with Database(postgres_url, pool_size=4) as database:
        before = await pids(database, 4)
        stop = asyncio.Event()

        async def work() -> None:
            while not stop.is_set():
                await database.ping()

        working = [asyncio.create_task(work()) for _ in range(8)]
        await database.refresh()
        assert not before & await pids(database, 4)
        stop.set()
        await asyncio.gather(*working)


async def test_a_full_queue_refuses_at_once(postgres_url: str) -> None:
    """26."""
    async with Database(postgres_url, pool_size=2, max_waiting=3) as database:
        leave = asyncio.Event()

        async def hold() -> None:
            async with database.connection():
                await leave.wait()

        holding = [asyncio.create_task(hold()) for _ in range(5)]
        for _ in range(20):
            await asyncio.sleep(0)
        started = time.perf_counter()
        with pytest.raises(PoolOverloaded, match="max_waiting"):
            await database.ping()
        assert time.perf_counter() - started < 0.05
        leave.set()
        await asyncio.gather(*holding)


async def test_exhaustion_is_told_in_time_and_in_full(postgres_url: str) -> None:
    """25."""
    async with Database(postgres_url, pool_size=2, acquire_timeout=0.3) as database:
        leave = asyncio.Event()

        async def hold() -> None:
            async with database.connection():
                await leave.wait()

        holding = [asyncio.create_task(hold(), name=f"report {n}") for n in range(2)]
        await asyncio.sleep(0)
        started = time.perf_counter()
        with pytest.raises(PoolTimeout, match=r"pool_size.*report [01] for 0\.\d s"):
            await database.ping()
        assert 0.3 <= time.perf_counter() - started < 0.4
        leave.set()
        await asyncio.gather(*holding)


async def test_a_full_reset_leaves_no_session_state(postgres_url: str) -> None:
    """66."""
    async with Database(postgres_url, pool_size=1, reset="full") as database:
        async with database.connection() as connection:
            await connection.execute(text("SET search_path TO elsewhere"))
            await connection.execute(text("SELECT pg_advisory_lock(7)"))
            await connection.execute(text("CREATE TEMP TABLE t (n int)"))
        async with database.connection() as connection:
            path = (await connection.execute(text("SHOW search_path"))).scalar_one()
            locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            assert "elsewhere" not in path
            assert (await connection.execute(locks)).scalar_one() == 0
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT * FROM t"))
            await connection.rollback()


async def test_without_named_statements_everything_works(postgres_url: str) -> None:
    """What ``pgbouncer=True`` sends: no statement with a name, so none can be missing."""
    async with Database(postgres_url, pool_size=1, pgbouncer=True) as database:
        async with database.connection() as connection:
            for _ in range(3):
                await connection.execute(text("SELECT 7"))
            named = text("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
            assert (await connection.execute(named)).scalar_one() == 0


async def test_a_storm_of_cancellations_leaks_nothing(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """32, in small."""
    name = postgres_url.rpartition("/")[2]
    async with Database(postgres_url, pool_size=5) as database:

        async def work() -> None:
            async with database.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(0.01)"))

        for _ in range(10):
            tasks = [asyncio.create_task(work()) for _ in range(30)]
            for turn, task in enumerate(tasks):
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(await pids(database, 5)) == 5
        assert len(postgres.sessions(database=name)) <= 5
