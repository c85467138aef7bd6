"""connect() and disconnect(): verified, counted, all or nothing, on any loop and thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from asgi_dbconn import (
    ConfigurationError,
    ConnectTimeout,
    Database,
    DatabaseUnavailable,
    PoolClosed,
)
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_block_connects_and_disconnects(database_url: str) -> None:
    database = Database(database_url)
    assert not database.is_connected

    async with database:
        assert database.is_connected
        await database.ping()

    assert not database.is_connected


async def test_the_repr_tells_the_state(database_url: str) -> None:
    database = Database(database_url, name="shop")
    shown = f"<Database 'shop' {database.url} [{{}} | leases: {{}} | loops: {{}}]>"

    assert repr(database) == shown.format("not connected", 0, 0)
    async with database, database:
        assert repr(database) == shown.format("connected", 2, 1)
    assert repr(database) == shown.format("not connected", 0, 0)


async def test_nested_connects_open_once(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url)

    await asyncio.gather(*(database.connect() for _ in range(50)))

    assert len(postgres.sessions(database=name)) == 1
    reports = [await database.disconnect() for _ in range(50)]
    assert [report for report in reports[:-1] if report is not None] == []
    assert reports[-1] is not None
    assert reports[-1].closed == 1


async def test_a_surplus_disconnect_gives_no_report(database_url: str) -> None:
    database = Database(database_url)

    assert await database.disconnect() is None
    async with database:
        pass
    assert await database.disconnect() is None


async def test_force_disconnects_whatever_the_count(database_url: str) -> None:
    database = Database(database_url)
    await database.connect()
    await database.connect()

    assert await database.disconnect(force=True) is not None

    assert not database.is_connected


async def test_it_can_be_connected_again_and_again(database_url: str) -> None:
    database = Database(database_url)
    for _ in range(20):
        async with database:
            await database.ping()


async def test_a_dead_port_is_noticed_by_connect(dead_port: int) -> None:
    database = Database(f"postgresql://app:hush@127.0.0.1:{dead_port}/shop", startup_timeout=0)

    with pytest.raises(DatabaseUnavailable) as caught:
        await database.connect()

    text = str(caught.value)
    assert f"postgresql+asyncpg://app:***@127.0.0.1:{dead_port}/shop" in text
    assert "1 attempt" in text
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert repr(database).endswith("[not connected | leases: 0 | loops: 0]>")


async def test_what_may_pass_is_tried_again(
    dead_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(f"postgresql://app:hush@127.0.0.1:{dead_port}/shop", startup_timeout=0.4)

    with caplog.at_level(logging.WARNING, "asgi_dbconn"), pytest.raises(DatabaseUnavailable) as e:
        await database.connect()

    assert 1 < len(caplog.records) + 1 < 6
    assert f"{len(caplog.records) + 1} attempts" in str(e.value)
    assert "hush" not in caplog.text


async def test_connecting_succeeds_once_the_server_comes_up(
    proxy: Proxy, postgres_url: str
) -> None:
    proxy.set_mode("refuse")
    database = Database(proxy.url_for(postgres_url), startup_timeout=20)

    connecting = asyncio.create_task(database.connect())
    await wait_until_async(lambda: not connecting.done() and database.is_connected is False, 1)
    await asyncio.to_thread(proxy.set_mode, "pass")
    await connecting

    await database.ping()
    await database.disconnect()


async def test_a_wrong_password_is_not_tried_again(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(postgres.secret_url(password="wrong-guess"), startup_timeout=30)

    with caplog.at_level(logging.WARNING, "asgi_dbconn"), pytest.raises(DatabaseUnavailable) as e:
        await database.connect()

    assert "trying again would not help" in str(e.value)
    assert not caplog.records
    assert "wrong-guess" not in str(e.value)


async def test_an_unknown_database_is_not_tried_again(postgres: PostgresServer) -> None:
    database = Database(postgres.url_for("nobody_made_this"), startup_timeout=30)

    with pytest.raises(DatabaseUnavailable, match=r"nobody_made_this.*1 attempt"):
        await database.connect()


async def test_a_silent_server_runs_into_the_connect_timeout(
    proxy: Proxy, postgres_url: str
) -> None:
    proxy.set_mode("stall")
    database = Database(proxy.url_for(postgres_url), connect_timeout=0.2, startup_timeout=0)

    with pytest.raises(ConnectTimeout, match="connect_timeout") as caught:
        await database.connect()

    assert isinstance(caught.value, TimeoutError)
    await asyncio.to_thread(proxy.set_mode, "pass")


async def test_the_right_password_works_from_url_option_and_functions(
    postgres: PostgresServer,
) -> None:
    from tests.support.postgres import SECRET_PASSWORD

    async def ask() -> str:
        await asyncio.sleep(0)
        return SECRET_PASSWORD

    without = Database(postgres.secret_url()).url.replace(password=None)
    for database in (
        Database(postgres.secret_url()),
        Database(without, password=SECRET_PASSWORD),
        Database(without, password=lambda: SECRET_PASSWORD),
        Database(without, password=ask),
    ):
        async with database:
            await database.ping()


async def test_no_frame_of_a_connect_error_shows_the_password(
    postgres: PostgresServer, dead_port: int
) -> None:
    for url in (
        postgres.secret_url(password="wrong-guess"),
        f"postgresql://u:wrong-guess@127.0.0.1:{dead_port}/d",
    ):
        database = Database(url, startup_timeout=0)
        url = ""  # noqa: PLW2901 - this frame is in the traceback, too
        try:
            await database.connect()
        except DatabaseUnavailable as error:
            report = traceback.TracebackException.from_exception(error, capture_locals=True)
            assert "wrong-guess" not in "".join(report.format())
        else:
            pytest.fail("nothing was raised")


async def test_concurrent_connectors_share_one_failure(dead_port: int) -> None:
    database = Database(f"postgresql://u@127.0.0.1:{dead_port}/d", startup_timeout=0)

    outcomes = await asyncio.gather(
        *(database.connect() for _ in range(20)), return_exceptions=True
    )

    assert all(isinstance(each, DatabaseUnavailable) for each in outcomes)
    assert repr(database).endswith("[not connected | leases: 0 | loops: 0]>")


async def test_a_cancelled_leader_is_followed_by_the_next(proxy: Proxy, postgres_url: str) -> None:
    proxy.set_mode("stall")
    database = Database(proxy.url_for(postgres_url), connect_timeout=10)
    leader = asyncio.create_task(database.connect())
    await asyncio.sleep(0)
    follower = asyncio.create_task(database.connect())
    await asyncio.sleep(0)

    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    await asyncio.to_thread(proxy.set_mode, "pass")
    await follower

    assert repr(database).endswith("[connected | leases: 1 | loops: 1]>")
    await database.disconnect()


async def test_work_in_flight_may_finish_and_new_work_is_refused(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.connect()
    entered = asyncio.Event()

    async def slow() -> object:
        async with database.connection() as connection:
            entered.set()
            return (await connection.execute(text("SELECT pg_sleep(0.3), 7"))).scalar()

    working = asyncio.create_task(slow())
    await entered.wait()
    closing = asyncio.create_task(database.disconnect())
    await wait_until_async(lambda: not database.is_connected, 1)
    with pytest.raises(PoolClosed):
        await database.ping()

    report = await closing
    await working
    assert report is not None
    assert (report.closed, report.cancelled, report.cut) == (1, 0, 0)


async def test_work_that_takes_too_long_is_cancelled_on_the_server(
    postgres: PostgresServer, postgres_url: str
) -> None:
    database = Database(postgres_url, shutdown_timeout=0.2)
    await database.connect()

    async def endless() -> None:
        async with database.connection() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))

    working = asyncio.create_task(endless())
    await wait_until_async(lambda: any("pg_sleep" in each.query for each in postgres.sessions()), 5)

    report = await asyncio.wait_for(database.disconnect(), 0.2 + 2.5)

    assert report is not None
    assert (report.cancelled, report.cut) == (1, 0)
    outcome = (await asyncio.gather(working, return_exceptions=True))[0]
    assert isinstance(outcome, Exception)
    assert not [each for each in postgres.sessions() if "pg_sleep" in each.query]


async def test_disconnecting_returns_although_the_network_does_not(
    proxy: Proxy, postgres_url: str
) -> None:
    database = Database(proxy.url_for(postgres_url), shutdown_timeout=0.2)
    await database.connect()
    await database.ping()
    await asyncio.to_thread(proxy.set_mode, "stall")

    report = await asyncio.wait_for(database.disconnect(), 0.2 + 2.5)

    assert report is not None
    assert report.cut == 1
    await asyncio.to_thread(proxy.set_mode, "reset")


def test_each_loop_has_a_pool_and_takes_it_along(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url)

    async def query() -> None:
        for _ in range(20):
            await database.ping()

    async def main() -> None:
        async with database:
            with ThreadPoolExecutor(8) as threads:
                loop = asyncio.get_running_loop()
                await asyncio.gather(
                    *(loop.run_in_executor(threads, asyncio.run, query()) for _ in range(8))
                )
            assert "loops: 1]" in repr(database)
            assert len(postgres.sessions(database=name)) == 1

    asyncio.run(main())


def test_any_number_of_threads_may_connect_and_disconnect(database_url: str) -> None:
    database = Database(database_url)

    async def live() -> None:
        for _ in range(10):
            async with database:
                await database.ping()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(asyncio.run, live()) for _ in range(8)]:
            done.result(30)

    assert repr(database).endswith("[not connected | leases: 0 | loops: 0]>")


def test_a_loop_that_ends_takes_its_pool_but_not_the_count(database_url: str) -> None:
    database = Database(database_url)

    asyncio.run(database.connect())

    assert repr(database).endswith("[connected | leases: 1 | loops: 0]>")
    asyncio.run(database.ping())
    assert asyncio.run(database.disconnect()) is not None


async def test_a_word_that_the_driver_does_not_know_is_a_mistake_and_not_tried_again(
    postgres_url: str,
) -> None:
    database = Database(f"{postgres_url}?colour=red", startup_timeout=30)

    with pytest.raises(ConfigurationError, match=r"colour.*follows the \?"):
        await database.connect()


async def test_the_remedy_fits_the_cause(postgres: PostgresServer, dead_port: int) -> None:
    for url, remedy in (
        (postgres.secret_url(password="wrong-guess"), "user and password right"),
        (postgres.url_for("nobody_made_this"), "has it been created"),
        (f"postgresql://u@127.0.0.1:{dead_port}/d", "Is the server running"),
        ("sqlite:////nowhere/at/all.db", "Does the folder exist"),
    ):
        with pytest.raises(DatabaseUnavailable, match=remedy):
            await Database(url, startup_timeout=0).connect()
