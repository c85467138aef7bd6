"""The last disconnect: what may finish, what is ended, how long it takes, and what stays open."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from asgi_dbconn import ConnectionLost, Database, DatabaseNotConnectedWarning, PoolClosed, Registry
from asgi_dbconn.pools.statistics import DrainReport
from tests.servers.kinds import HYPERCORN, UVICORN, Kind
from tests.servers.watching import (
    ENDED_BY_SIGTERM,
    ROOT,
    assert_nobody_connected,
    lives,
    sessions,
    sleeping,
)
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.postgres

CLOSED = "[not connected | references: 0 | loops: 0]>"

# An application whose requests need a connection each, all at the same time.
TWENTY_AT_ONCE = """
import os
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from asgi_dbconn import Registry
from tests.servers.apps.showing import show_our_log

show_our_log()
models = Registry(os.environ["DATABASE_URL"], pool_size=20)

async def sleep(request):
    async with models.connection() as connection:
        await connection.execute(text("SELECT pg_sleep(1.5)"))
    return PlainTextResponse("slept")

app = models.asgi(Starlette(routes=[Route("/sleep", sleep)]))
"""


async def query(database: Database, seconds: float) -> object:
    """Seven, after so many seconds in the server."""
    async with database.connection() as connection:
        slow = text("SELECT 7 FROM pg_sleep(:seconds)")
        return (await connection.execute(slow, {"seconds": seconds})).scalar_one()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names are enough


async def open_all(database: Database, connections: int) -> None:
    """Let the pool open so many connections, and leave them idle."""
    everybody = asyncio.Barrier(connections)

    async def hold() -> None:
        async with database.connection():
            await everybody.wait()

    await asyncio.gather(*(hold() for _ in range(connections)))


async def test_what_is_in_flight_may_finish_and_what_waits_is_refused(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 50: 20 queries of half a second on 20 connections, and 80 that wait for them."""
    database = Database(postgres_url, pool_size=20, acquire_timeout=30)
    await database.connect()
    await open_all(database, 20)
    tasks = [asyncio.create_task(query(database, 0.5)) for _ in range(100)]
    in_flight, waiting = tasks[:20], tasks[20:]
    await wait_until_async(lambda: len(sleeping(postgres, postgres_url)) == 20, 5)
    assert database.stats().waiting == 80

    with taking(most=5):  # of ten that it could have taken
        closing = asyncio.create_task(database.disconnect())
        refused = await asyncio.gather(*waiting, return_exceptions=True)
        assert not any(outcome.done() for outcome in in_flight)
        with pytest.raises(PoolClosed):
            await database.ping()
        report = await closing

    assert {type(outcome) for outcome in refused} == {PoolClosed}
    assert await asyncio.gather(*in_flight) == [7] * 20
    assert report == DrainReport(closed=20)


async def test_what_takes_too_long_is_cancelled_on_the_server(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 51: a query of a minute gets the one second of grace, and then its end."""
    database = Database(postgres_url, shutdown_timeout=1.0)
    await database.connect()
    working = asyncio.create_task(query(database, 60))
    await wait_until_async(lambda: sleeping(postgres, postgres_url), 5)

    with taking(1.0, most=2.5):
        report = await database.disconnect()
        await wait_until_async(lambda: not sleeping(postgres, postgres_url), 1)

    assert report == DrainReport(cancelled=1)
    with pytest.raises(ConnectionLost, match="canceling statement"):
        await working


async def test_a_network_that_swallows_everything_delays_the_end_by_no_more_than_its_limits(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 52: with a connection that lies idle, and one whose query never arrived."""
    database = Database(proxy.url_for(postgres_url), shutdown_timeout=0.5, idle_check_after=60)
    await database.connect()
    await open_all(database, 2)
    await asyncio.to_thread(proxy.set_mode, "stall")
    working = asyncio.create_task(query(database, 0))
    await wait_until_async(lambda: database.stats().in_use == 1, 1)

    with taking(0.5, most=0.5 + 2.5):
        report = await database.disconnect()

    assert report == DrainReport(cut=2)
    with pytest.raises(ConnectionLost):
        await working
    assert repr(database).endswith(CLOSED)
    await asyncio.to_thread(proxy.set_mode, "reset")


async def test_a_disconnect_that_is_cancelled_and_cancelled_again_goes_on_behind(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 53: whoever waits for it may go away; it ends in time, and is reported."""
    models = Registry(postgres_url, shutdown_timeout=1.0)
    await models.connect()
    working = asyncio.create_task(query(models.database, 60))
    await wait_until_async(lambda: sleeping(postgres, postgres_url), 5)

    with taking(1.0, most=1.0 + 2.5), caplog.at_level(logging.INFO, "asgi_dbconn"):
        for _ in range(2):
            leaving = asyncio.create_task(models.disconnect())
            await wait_until_async(lambda: not models.is_connected, 1)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        assert sleeping(postgres, postgres_url)  # nobody was kept until the end
        assert await models.disconnect() is None  # the report was for the first

    assert caplog.messages[-1].endswith("disconnected: 0 closed, 1 cancelled, 0 cut")
    assert repr(models.database).endswith(CLOSED)
    assert sleeping(postgres, postgres_url) == []
    with pytest.raises(ConnectionLost, match="canceling statement"):
        await working


def test_a_second_ctrl_c_ends_the_grace_and_the_query_on_the_server(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 53: the first leads to the disconnect, the second tears it down with the loop."""
    models = Registry(postgres_url, shutdown_timeout=30)
    second_at = 0.0

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def interrupt_twice() -> None:
            nonlocal second_at
            await wait_until_async(lambda: sleeping(postgres, postgres_url), 5)
            # Not from inside a task: the second would be an error of that task, too.
            loop.call_soon(signal.raise_signal, signal.SIGINT)
            await wait_until_async(lambda: not models.is_connected, 5)
            second_at = time.perf_counter()
            loop.call_soon(signal.raise_signal, signal.SIGINT)

        async with models:
            working = asyncio.create_task(query(models.database, 60))
            interrupting = asyncio.create_task(interrupt_twice())
            await asyncio.wait({working})
            del interrupting

    with caplog.at_level(logging.INFO, "asgi_dbconn"), pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    took = time.perf_counter() - second_at

    assert took <= 10  # of the thirty that it could have gone on
    assert " disconnected" in caplog.messages[-1]
    assert repr(models.database).endswith(CLOSED)
    wait_until(lambda: not sessions(postgres, postgres_url), 1)


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "code"),
    # Uvicorn shuts down in order, and then ends itself by the signal that it got.
    [(UVICORN, ENDED_BY_SIGTERM), (HYPERCORN, 0)],
    ids=["uvicorn", "hypercorn"],
)
def test_a_server_answers_every_request_in_flight_before_it_ends(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, kind: Kind, code: int
) -> None:
    """Scenario 54: 20 requests, each with a connection of its own."""
    (tmp_path / "twenty_at_once.py").write_text(TWENTY_AT_ONCE)
    env = {"DATABASE_URL": postgres_url, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    with ThreadPoolExecutor(20) as clients, kind.serve(env, app="twenty_at_once:app") as server:
        answers = [clients.submit(server.get, "/sleep") for _ in range(20)]
        wait_until(lambda: len(sleeping(postgres, postgres_url)) == 20, 10)
        server.terminate()
        assert [answer.result(10).status_code for answer in answers] == [HTTPStatus.OK] * 20
        assert server.wait(10) == code
        assert_nobody_connected(postgres, postgres_url)
    assert lives(server.log) == ["connected", "disconnected: 20 closed, 0 cancelled, 0 cut"]
    assert "Traceback" not in server.log


async def test_a_disconnected_database_gets_no_new_pool_unseen(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 56: an engine that was kept refuses, and a query says that it is on its own."""
    database = Database(proxy.url_for(postgres_url))
    async with database:
        engine = database.engine
        await database.ping()
    opened = proxy.connections

    with pytest.raises(PoolClosed):
        async with engine.connect():
            pytest.fail("the kept engine gave a connection")
    async with AsyncSession(engine) as session:
        with pytest.raises(PoolClosed):
            await session.execute(text("SELECT 1"))
    with pytest.raises(PoolClosed, match="not connected"):
        _ = database.engine
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatabaseNotConnectedWarning)
        with pytest.raises(DatabaseNotConnectedWarning):
            await database.ping()
    assert proxy.connections == opened

    with pytest.warns(DatabaseNotConnectedWarning):
        await database.ping()
    assert proxy.connections == opened + 1
    assert repr(database).endswith(CLOSED)


@pytest.mark.parametrize(("leases", "force"), [(1, False), (10, False), (10, True)])
async def test_ten_disconnects_at_once_are_one(
    database_url: str, caplog: pytest.LogCaptureFixture, leases: int, force: bool
) -> None:
    """Scenario 57: one drain, with one report; nobody is told too early that all is closed."""
    database = Database(database_url)
    assert await database.disconnect() is None
    for _ in range(leases):
        await database.connect()

    async def leave() -> tuple[DrainReport | None, str]:
        report = await database.disconnect(force=force)
        return report, repr(database)

    with caplog.at_level(logging.INFO, "asgi_dbconn"):
        outcomes = await asyncio.gather(*(leave() for _ in range(10)))
        assert await database.disconnect() is None

    assert [report for report, _ in outcomes if report is not None] == [DrainReport(closed=1)]
    assert caplog.text.count(" disconnected: ") == 1
    assert repr(database).endswith(CLOSED)
    if force or leases == 1:
        assert all(seen.endswith(CLOSED) for _, seen in outcomes)


async def test_connecting_again_and_again_costs_nothing_that_stays(database_url: str) -> None:
    """Scenario 57: fifty lives, and not one open file more than after the first."""
    database = Database(database_url)
    files: list[int] = []

    for _ in range(51):
        async with database:
            await database.ping()
        files.append(open_files())

    assert len(set(files)) == 1


class Complaining(Database):
    """A database that closes, and then says that something is wrong with it."""

    async def disconnect(self, *, force: bool = False) -> DrainReport | None:
        await super().disconnect(force=force)
        raise OSError(f"the audit of {self.name} failed")


async def test_a_database_that_fails_to_disconnect_does_not_keep_the_others(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 58: the error is raised once the others have taken their time."""
    models = Registry(postgres_url, extra={"a": Complaining("sqlite://", name="a")})
    await models.connect()
    working = asyncio.create_task(query(models.database, 0.3))
    await wait_until_async(lambda: sleeping(postgres, postgres_url), 5)

    with pytest.raises(OSError, match="the audit of a failed"):
        await models.disconnect()

    assert all(repr(database).endswith(CLOSED) for database in models.databases.values())
    assert working.done()
    assert await working == 7


async def test_databases_that_fail_to_disconnect_are_all_heard(database_url: str) -> None:
    """Scenario 58: several errors come as a group."""
    complaining = {name: Complaining("sqlite://", name=name) for name in ("a", "b")}
    models = Registry(database_url, extra=complaining)
    await models.connect()

    with pytest.raises(ExceptionGroup, match="2 of 3 databases failed") as caught:
        await models.disconnect()

    told = ["the audit of a failed", "the audit of b failed"]
    assert [str(exception) for exception in caught.value.exceptions] == told
    assert caught.value.__cause__ is caught.value.exceptions[0]
    assert all(repr(database).endswith(CLOSED) for database in models.databases.values())
