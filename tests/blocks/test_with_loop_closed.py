"""A loop that is closed after ``with_loop`` gives its count and its connections back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from asgi_dbconn import Registry, run_sync
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore::asgi_dbconn.UnclosedDatabaseWarning"),
    # What asyncio and asyncpg have to say of such a loop is true, and hidden by default.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def said_here() -> Iterator[None]:
    """Let them say it before the next test."""
    yield
    gc.collect()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def use(models: Registry, loop: asyncio.AbstractEventLoop) -> None:
    with models.with_loop(loop):
        run_sync(models.ping())
    assert models.is_connected


def test_the_count_is_given_back(database_url: str, loop: asyncio.AbstractEventLoop) -> None:
    models = Registry(database_url)
    use(models, loop)
    loop.close()
    assert not models.is_connected
    assert "leases: 0" in repr(models.database) or "references: 0" in repr(models.database)
    stats = models.stats()[None]
    assert (stats.loops, stats.idle, stats.in_use) == (0, 0, 0)


def test_the_sessions_of_the_server_end(
    postgres: PostgresServer, postgres_url: str, loop: asyncio.AbstractEventLoop
) -> None:
    models = Registry(postgres_url)
    use(models, loop)
    loop.close()
    name = postgres_url.rpartition("/")[2]
    wait_until(
        # At the latest when anybody looks at the registry.
        lambda: not (models.is_connected or postgres.sessions(database=name)),
        2,
        message="the sessions have ended",
    )


def test_the_next_user_connects_anew(database_url: str, loop: asyncio.AbstractEventLoop) -> None:
    models = Registry(database_url)
    use(models, loop)
    loop.close()

    async def connect() -> int:
        async with models:
            await models.ping()
            return models.stats()[None].loops

    assert asyncio.run(connect()) == 1
    assert not models.is_connected


def test_one_of_two_loops(database_url: str) -> None:
    models = Registry(database_url)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    use(models, first)
    use(models, second)
    first.close()
    assert models.is_connected
    assert models.stats()[None].loops == 1
    with models.with_loop(second):
        run_sync(models.ping())
    second.close()
    assert not models.is_connected


def test_a_loop_that_is_shut_down_first(database_url: str) -> None:
    models = Registry(database_url)
    loop = asyncio.new_event_loop()
    use(models, loop)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert not models.is_connected


def test_other_counts_stay(database_url: str, loop: asyncio.AbstractEventLoop) -> None:
    models = Registry(database_url)

    async def hold() -> None:
        async with models:
            await asyncio.to_thread(use, models, loop)
            loop.close()
            assert models.is_connected
            await models.ping()

    asyncio.run(hold())
    assert not models.is_connected
