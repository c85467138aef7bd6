"""Connections that are lost, replaced or renewed while the application runs."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from asgi_dbconn import ConnectionLost, Database
from tests.faults.backends import active, alive, kill_all, pids
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking

pytestmark = pytest.mark.postgres


async def test_idle_connections_that_were_killed_are_replaced_unseen(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 11, with connections that lay idle."""
    async with Database(postgres_url, pool_size=4, idle_check_after=0) as database:
        before = await pids(database, 4)
        kill_all(postgres, postgres_url)

        await asyncio.gather(*(database.ping() for _ in range(20)))

        assert not before & await pids(database, 4)


async def test_fresh_connections_that_were_killed_fail_once_each_and_by_name(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 11, with connections that were used a moment ago."""
    # A window that no slow machine leaves: all of them are taken as they are.
    async with Database(postgres_url, pool_size=4, idle_check_after=60) as database:
        await pids(database, 4)
        kill_all(postgres, postgres_url)

        outcomes = await asyncio.gather(
            *(database.ping() for _ in range(20)), return_exceptions=True
        )

        errors = [outcome for outcome in outcomes if outcome is not None]
        assert 1 <= len(errors) <= 4
        assert {type(error) for error in errors} == {ConnectionLost}
        await asyncio.gather(*(database.ping() for _ in range(20)))
        assert database.stats().lost == len(errors)


async def test_a_query_whose_backend_is_ended_fails_at_once(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 12."""
    async with Database(postgres_url, pool_size=1) as database:
        (before,) = await pids(database, 1)

        async def query() -> None:
            async with database.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        querying = asyncio.create_task(query())
        await wait_until_async(lambda: active(postgres, postgres_url), 5)
        with taking(most=5), pytest.raises(ConnectionLost):
            # Without a limit of its own the function does not wait for the backend's end.
            postgres.fetch("SELECT pg_terminate_backend($1)", before)
            await querying

        assert (database.stats().in_use, database.stats().idle) == (0, 0)
        assert await pids(database, 1) != {before}


async def test_a_reset_network_fails_the_query_in_flight_and_the_next_one_connects(
    postgres: PostgresServer, proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 17, with a query under way."""
    async with Database(proxy.url_for(postgres_url), pool_size=1) as database:

        async def query() -> None:
            async with database.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        querying = asyncio.create_task(query())
        await wait_until_async(lambda: active(postgres, postgres_url), 5)
        await asyncio.to_thread(proxy.reset_connections)
        with taking(most=5), pytest.raises(ConnectionLost):
            await querying

        await database.ping()
        assert proxy.connections == 2
    # The server notices a client that is gone only when it has something to say to it.
    kill_all(postgres, postgres_url)


async def test_a_reset_network_fails_the_query_that_finds_it_and_the_next_one_connects(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 17, with a connection that was used a moment ago."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, idle_check_after=60) as database:
        proxy.reset_connections()  # our loop stands still, and has not noticed
        with taking(most=2), pytest.raises(ConnectionLost):
            await database.ping()

        await database.ping()
        assert proxy.connections == 2


async def test_a_demoted_primary_fails_one_write_and_no_more(postgres_url: str) -> None:
    """Scenario 20: every connection leads to a server that turned read-only; new ones do not."""
    async with Database(postgres_url, pool_size=4) as database:
        async with database.transaction() as transaction:
            await transaction.connection.execute(text("CREATE TABLE t (n int)"))
        demoted = await pids(
            database, 4, first="SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
        )

        async def write() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(text("INSERT INTO t VALUES (1)"))

        with pytest.raises(ConnectionLost, match="read-only") as caught:
            await write()
        assert getattr(caught.value.__cause__, "sqlstate", None) == "25006"
        await asyncio.gather(*(write() for _ in range(8)))
        assert not demoted & await pids(database, 4)


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
    """Scenario 21, on a network with 50 ms between a question and its answer."""
    url = proxy.url_for(postgres_url)
    async with Database(url, pool_size=1, idle_check_after=idle_check_after) as database:
        await database.ping()
        await asyncio.to_thread(proxy.delay, 0.025)
        with proxy.counting() as counted:
            with taking(0.05 * (1 + pings), most=2):
                await database.ping()
        await asyncio.to_thread(proxy.delay, 0.0)

    assert counted.round_trips == 1 + pings


async def test_old_connections_are_replaced_and_not_all_at_once(postgres_url: str) -> None:
    """Scenario 22."""
    clock = asyncio.get_running_loop().time
    asked_at = clock()
    replaced: list[tuple[float, float]] = []
    """When a connection was last found young enough, and when it had been replaced."""
    async with Database(postgres_url, pool_size=10, max_lifetime=2.0) as database:
        before = await pids(database, 10)
        event.listen(
            database.engine.sync_engine, "connect", lambda *_: replaced.append((asked_at, clock()))
        )
        give_up_at = clock() + 4.0
        # All ten are held at the same time, over and over, so that each is asked for when its
        # time has come; an error would end the test.
        while len(replaced) < 10 and clock() < give_up_at:
            started = clock()
            held = [await database.engine.connect() for _ in range(10)]
            for connection in held:
                await connection.close()
            asked_at = started
            await asyncio.sleep(0.005)
        assert not before & await pids(database, 10)

    # A machine that is slow to ask lets several grow old in the meantime: what counts is that
    # their time came within 100 ms for certain.
    crowds = [
        sum(since <= young and gone < since + 0.1 for young, gone in replaced)
        for since, _ in replaced
    ]
    assert max(crowds) <= 3, [round(gone - replaced[0][1], 3) for _, gone in replaced]


async def test_refresh_renews_every_connection_under_load(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 24."""
    async with Database(postgres_url, pool_size=4) as database:
        before = await pids(database, 4)
        stop, done = asyncio.Event(), 0

        async def work() -> None:
            nonlocal done
            while not stop.is_set():
                async with database.connection() as connection:
                    await connection.execute(text("SELECT pg_sleep(0.01)"))
                done += 1

        working = [asyncio.create_task(work()) for _ in range(8)]
        await wait_until_async(lambda: done >= 8, 5)
        await database.refresh()
        await wait_until_async(lambda: not before & alive(postgres, postgres_url), 2)

        enough = done + 20
        await wait_until_async(lambda: done >= enough, 5)
        assert len(alive(postgres, postgres_url)) == 4
        stop.set()
        await asyncio.gather(*working)  # none of them has seen an error
        assert database.stats().lost == 0


async def test_a_full_reset_leaves_no_session_state(postgres_url: str) -> None:
    """Scenario 66."""
    async with Database(postgres_url, pool_size=1, reset="full") as database:
        async with database.connection() as connection:
            await connection.execute(text("SET search_path TO elsewhere"))
            await connection.execute(text("SET statement_timeout TO 4321"))
            await connection.execute(text("SELECT pg_advisory_lock(7)"))
            await connection.execute(text("CREATE TEMP TABLE t (n int)"))
        async with database.connection() as connection:
            path = (await connection.execute(text("SHOW search_path"))).scalar_one()
            limit = (await connection.execute(text("SHOW statement_timeout"))).scalar_one()
            locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            assert "elsewhere" not in path
            assert limit == "0"
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
