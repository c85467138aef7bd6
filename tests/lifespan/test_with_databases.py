"""The middleware around real registries: what fails, what the server hears, what stays open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectTimeout, Database, DatabaseUnavailable, LifespanMiddleware, Registry
from asgi_dbconn.pools.statistics import DrainReport
from asgi_dbconn.testing.conformance.harness import (
    BYE,
    COMPLETE,
    SHUTDOWN,
    STARTUP,
    LifespanHarness,
    polite,
)
from tests.support.leftovers import wait_until, wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

STARTUP_FAILED = "lifespan.startup.failed"
LIVED = [STARTUP, COMPLETE["type"], SHUTDOWN, BYE["type"]]


async def live(stage: LifespanHarness, app: Any) -> BaseException | None:
    try:
        await app({"type": "lifespan"}, stage.receive, stage.send)
    except Exception as error:
        return error
    return None


@pytest.fixture
def dead_url() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"postgresql://app:hush@127.0.0.1:{bound.getsockname()[1]}/shop"


@pytest.mark.parametrize("handle_lifespan", [True, False])
async def test_one_dead_database_of_three_is_named_and_the_others_closed(
    postgres: PostgresServer,
    postgres_url: str,
    sqlite_url: str,
    dead_url: str,
    handle_lifespan: bool,
) -> None:
    """Scenarios 8, 9 and 10."""
    models = Registry(postgres_url, extra={"a": sqlite_url, "b": dead_url}, startup_timeout=0)
    stage = LifespanHarness()
    open_when_told: list[Any] = []

    async def send(message: Any) -> None:
        open_when_told.extend(postgres.sessions(database=postgres_url.rpartition("/")[2]))
        await stage.send(message)

    app = models.asgi(polite(stage.story), handle_lifespan=handle_lifespan)
    with pytest.raises(DatabaseUnavailable):
        await app({"type": "lifespan"}, stage.receive, send)

    assert stage.story == [STARTUP, STARTUP_FAILED]
    told = stage.last_message["message"]
    assert "'b'" in told
    assert "app:***@127.0.0.1" in told
    assert "hush" not in told
    assert open_when_told == []


async def test_two_dead_databases_are_both_named(dead_url: str, sqlite_url: str) -> None:
    models = Registry(sqlite_url, extra={"a": dead_url, "b": dead_url}, startup_timeout=0)
    stage = LifespanHarness()

    assert isinstance(await live(stage, models.asgi(polite([]))), ExceptionGroup)

    for part in ("2 of 3", "'a'", "'b'"):
        assert part in stage.last_message["message"]
    assert "hush" not in stage.last_message["message"]


async def test_a_connect_that_hangs_is_bounded(proxy: Proxy, postgres_url: str) -> None:
    """Scenario 11."""
    proxy.set_mode("stall")
    models = Registry(proxy.url_for(postgres_url), connect_timeout=0.2, startup_timeout=0)
    stage = LifespanHarness()

    error = await asyncio.wait_for(live(stage, models.asgi(polite([]))), 2)

    assert isinstance(error, ConnectTimeout)
    assert stage.story == [STARTUP, STARTUP_FAILED]
    await asyncio.to_thread(proxy.set_mode, "reset")


async def test_a_disconnect_on_a_dead_network_is_bounded_and_logged(
    proxy: Proxy, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 15: the databases see to their bound themselves, so the last_message is said."""
    models = Registry(proxy.url_for(postgres_url), shutdown_timeout=0.2)
    stage = LifespanHarness(asks=[STARTUP])
    life = asyncio.create_task(live(stage, models.asgi(polite([]))))
    await stage.waiting.wait()
    await asyncio.to_thread(proxy.set_mode, "stall")

    stage.ask(SHUTDOWN)
    assert await asyncio.wait_for(life, 0.2 + 2.5) is None

    assert stage.story == LIVED
    assert "1 cut" in caplog.text
    await asyncio.to_thread(proxy.set_mode, "reset")


class Stubborn(Database):
    """A database that closes, and then says that it could not."""

    async def disconnect(self, *, force: bool = False) -> DrainReport | None:
        await super().disconnect(force=force)
        raise OSError("the proxy is gone")


async def test_one_database_that_cannot_close_does_not_keep_the_others_open(
    database_url: str, sqlite_url: str
) -> None:
    """Scenario 16."""
    models = Registry(database_url, extra={"a": Stubborn("sqlite://"), "b": sqlite_url})
    stage = LifespanHarness()

    error = await live(stage, models.asgi(polite([])))

    assert isinstance(error, OSError)
    assert stage.story == [*LIVED[:-1], "lifespan.shutdown.failed"]
    assert "the proxy is gone" in stage.last_message["message"]
    assert not any(database.is_connected for database in models.databases.values())


def test_a_second_cancellation_ends_at_once_and_still_leaves_no_connection(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 34, with a query in flight that would hold the drain for long."""
    name = postgres_url.rpartition("/")[2]
    models = Registry(postgres_url, shutdown_timeout=30)

    async def main() -> None:
        stage = LifespanHarness(asks=[STARTUP])
        life = asyncio.create_task(live(stage, models.asgi(polite([]))))
        await stage.waiting.wait()

        async def slow() -> None:
            async with models.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        working = asyncio.create_task(slow())
        await wait_until_async(
            lambda: any(
                "pg_sleep" in session.query for session in postgres.sessions(database=name)
            ),
            5,
        )
        life.cancel()
        await wait_until_async(lambda: not models.is_connected, 5)
        assert not life.done()
        life.cancel()
        await asyncio.wait({life}, timeout=1)
        assert life.cancelled()
        del working

    asyncio.run(main())
    wait_until(lambda: not postgres.sessions(database=name), 1.0)
    assert not models.is_connected


async def test_wrapping_twice_and_entering_inside_opens_and_closes_once(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 50."""
    name = postgres_url.rpartition("/")[2]
    models = Registry(postgres_url)
    seen: list[int] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with models:
            await send(COMPLETE)
            await receive()
        # Left by the inner block, and still connected by the wrappers around it.
        await models.database.ping()
        seen.append(len(postgres.sessions(database=name)))
        await send(BYE)

    stage = LifespanHarness()
    assert await live(stage, models.asgi(models.asgi(inner))) is None

    assert seen == [1]
    assert stage.story == LIVED
    assert not models.is_connected


async def test_any_async_context_manager_may_be_the_lifetime(sqlite_url: str) -> None:
    database, stage = Database(sqlite_url), LifespanHarness()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await database.ping()
        await send(COMPLETE)
        await receive()
        await send(BYE)

    assert await live(stage, LifespanMiddleware(inner, database)) is None
    assert stage.story == LIVED
