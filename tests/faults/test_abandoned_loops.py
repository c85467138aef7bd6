"""Loops that nobody ends in order, and test clients that make a new one for each request."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest
import uvloop
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from starlette.testclient import TestClient

from asgi_dbconn import Registry, UnclosedDatabaseWarning
from tests.faults.backends import backend, backends
from tests.support.postgres import PostgresServer
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres

NewLoop = Callable[[], asyncio.AbstractEventLoop]

# What asyncio and asyncpg have to say of loops that nobody ends is true, and hidden by default.
carelessly = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
on_each_kind_of_loop = pytest.mark.parametrize(
    "new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


def query(models: Registry) -> None:
    asyncio.run(models.ping())


def connect_once_more(models: Registry) -> None:
    async def nested() -> None:
        async with models:
            pass

    asyncio.run(nested())


def ask_for_numbers(models: Registry) -> None:
    models.stats()


def disconnect(models: Registry) -> None:
    asyncio.run(models.disconnect())


def connected_on_a_closed_loop(url: str, new_loop: NewLoop) -> Registry:
    """A registry whose only connection belongs to a loop that was closed without a word."""
    models = Registry(url)
    careless = new_loop()
    careless.run_until_complete(models.connect())
    careless.close()
    return models


@carelessly
@pytest.mark.filterwarnings("ignore::asgi_dbconn.UnclosedDatabaseWarning")
@on_each_kind_of_loop
@pytest.mark.parametrize("operation", [query, connect_once_more, ask_for_numbers, disconnect])
def test_the_next_operation_sweeps_a_loop_that_was_closed_without_a_word(
    postgres: PostgresServer,
    postgres_url: str,
    new_loop: NewLoop,
    operation: Callable[[Registry], None],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Scenario 38."""
    models = connected_on_a_closed_loop(postgres_url, new_loop)

    with taking(most=1.5):
        operation(models)
        wait_until(lambda: not backends(postgres, postgres_url), 1.0)

    assert models.database.stats().loops == 0
    asyncio.run(models.disconnect())
    assert not models.is_connected
    del models
    gc.collect()  # here, where what it says is expected
    assert not [record for record in caplog.records if record.exc_info]
    assert capfd.readouterr().err == ""


@carelessly
@on_each_kind_of_loop
def test_a_loop_that_was_closed_without_a_word_is_announced(
    postgres_url: str, new_loop: NewLoop
) -> None:
    """Scenario 38: the warning says how to end a loop."""
    models = connected_on_a_closed_loop(postgres_url, new_loop)

    with pytest.warns(UnclosedDatabaseWarning, match=r"shutdown_asyncgens.*asyncio\.Runner"):
        query(models)

    disconnect(models)
    del models
    gc.collect()


@carelessly
def test_a_loop_that_nobody_closes_can_be_collected_after_the_disconnect(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 39: until then the pool holds on to it, and its connection stays as it is."""
    models = Registry(postgres_url)
    loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(models.connect())
    forgotten = weakref.ref(loop)
    del loop
    gc.collect()
    query(models)  # makes a pool, and looks for closed loops as it does
    wait_until(lambda: len(backends(postgres, postgres_url)) == 1, 1.0)

    report = asyncio.run(models.disconnect())

    assert report is not None
    assert report.cut == 1
    wait_until(lambda: not backends(postgres, postgres_url), 1.0)
    gc.collect()
    assert forgotten() is None


@carelessly
@on_each_kind_of_loop
def test_a_loop_that_lies_idle_is_cut_by_a_disconnect_elsewhere(
    postgres: PostgresServer, postgres_url: str, new_loop: NewLoop
) -> None:
    """Scenario 39: uvloop's loops are never collected while they have a transport."""
    models = Registry(postgres_url)
    idle = new_loop()
    idle.run_until_complete(models.connect())

    report = asyncio.run(models.disconnect())

    assert report is not None
    assert report.cut == 1
    assert not models.is_connected
    wait_until(lambda: not backends(postgres, postgres_url), 1.0)
    idle.run_until_complete(idle.shutdown_asyncgens())
    idle.close()
    del idle
    gc.collect()  # here, where what it says is expected


def pid_app(models: Registry) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def pid() -> int:
        return await backend(models.database)

    return app


def test_a_test_client_without_its_block_connects_for_each_request(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 40: a loop for each request, and nobody else is connected."""
    models = Registry(postgres_url)
    client = TestClient(models.asgi(pid_app(models), without_lifespan="connect"))

    answers = [client.get("/") for _ in range(20)]

    assert [answer.status_code for answer in answers] == [200] * 20
    assert len({answer.json() for answer in answers}) == 20
    assert not models.is_connected


def test_a_test_client_without_its_block_uses_what_is_connected_elsewhere(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 40: a loop for each request, beside the one that connected."""
    models = Registry(postgres_url)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(models):
        elsewhere = portal.call(backend, models.database)
        client = TestClient(models.asgi(pid_app(models)))

        answers = [client.get("/") for _ in range(20)]

        assert [answer.status_code for answer in answers] == [200] * 20
        assert elsewhere not in {answer.json() for answer in answers}
        wait_until(lambda: backends(postgres, postgres_url) == {elsewhere}, 1.0)
        assert portal.call(backend, models.database) == elsewhere
    assert not models.is_connected
