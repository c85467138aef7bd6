"""with_async_env and with_loop: a registry connected for synchronous code."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop
from sqlalchemy import text

from asgi_dbconn import (
    ConfigurationError,
    Database,
    DatabaseUnavailable,
    LoopGoneError,
    Registry,
    UnclosedDatabaseWarning,
    run_sync,
)
from tests.models import Cast, make_cast
from tests.support.leftovers import wait_until
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.stopwatch import taking

BACKEND = text("SELECT pg_backend_pid()")


@pytest.fixture
def cast(database_url: str) -> Cast:
    cast = make_cast(Registry(database_url))
    run_sync(create(cast))
    return cast


async def create(cast: Cast) -> None:
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="Ada")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def names(cast: Cast) -> list[str]:
    return [user.name for user in run_sync(cast.User.query.all())]


def test_a_block_is_connected_and_its_queries_warn_of_nothing(cast: Cast) -> None:
    with cast.models.with_async_env():
        assert cast.models.is_connected
        assert names(cast) == ["Ada"]
        assert run_sync(cast.User.query.count()) == 1
    assert not cast.models.is_connected


def test_another_loop_inside_finds_it_connected_too(cast: Cast) -> None:
    async def count() -> Any:
        return await cast.User.query.count()

    with cast.models.with_async_env():
        assert asyncio.run(count()) == 1


def test_an_inner_block_opens_nothing(cast: Cast) -> None:
    env = cast.models.with_async_env()
    with env:
        before = cast.models.database.stats().connects
        with env, cast.models.with_async_env():
            names(cast)
        assert cast.models.is_connected
        assert cast.models.database.stats().connects == before
    with env:  # and it can be entered again
        names(cast)


def test_all_threads_of_a_block_share_one_pool(cast: Cast) -> None:
    with cast.models.with_async_env():
        names(cast)
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: names(cast), range(40)))
        assert cast.models.database.stats().loops == 1
    assert found == [["Ada"]] * 40


def test_threads_may_have_blocks_of_their_own(cast: Cast) -> None:
    env = cast.models.with_async_env()

    def use(_: int) -> list[str]:
        with env:
            return names(cast)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(use, range(20))) == [["Ada"]] * 20
    assert not cast.models.is_connected


def test_a_given_loop_is_used_and_left_open(cast: Cast, loop: asyncio.AbstractEventLoop) -> None:
    async def here() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with cast.models.with_async_env(loop):
        assert run_sync(here()) is loop
        assert names(cast) == ["Ada"]
    assert not loop.is_closed()
    assert not cast.models.is_connected


async def test_inside_of_a_running_loop_a_subloop_does_the_work(cast: Cast) -> None:
    # This loop has a pool, too, and cannot close it while it waits for the end of the block.
    with taking(most=5), cast.models.with_async_env():
        assert names(cast) == ["Ada"]
        assert [user.name for user in await cast.User.query] == ["Ada"]
    assert not cast.models.is_connected


def test_what_connecting_raises_is_raised_and_nothing_is_left(
    cast: Cast, tmp_path: object, loop: asyncio.AbstractEventLoop
) -> None:
    missing = Registry(f"sqlite:///{tmp_path}/no/such/folder.db")
    with cast.models.with_async_env():
        with pytest.raises(DatabaseUnavailable, match="folder"):
            with missing.with_async_env():
                raise AssertionError("not reached")
        assert cast.models.is_connected
        assert names(cast) == ["Ada"]
    with pytest.raises(DatabaseUnavailable), missing.with_loop(loop):
        raise AssertionError("not reached")


def test_what_the_block_raises_is_raised_and_it_is_disconnected(cast: Cast) -> None:
    with pytest.raises(KeyError), cast.models.with_async_env():
        raise KeyError("a")
    assert not cast.models.is_connected


def test_a_closed_loop_is_refused(cast: Cast) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    for block in (cast.models.with_async_env, cast.models.with_loop):
        with pytest.raises(LoopGoneError), block(loop):
            raise AssertionError("not reached")
    assert not cast.models.is_connected


def test_a_registry_is_entered_and_left_in_one_task(database_url: str) -> None:
    tasks: list[asyncio.Task[object] | None] = []

    class Noting(Registry):
        async def __aenter__(self) -> Noting:
            tasks.append(asyncio.current_task())
            return await super().__aenter__()

        async def __aexit__(self, *exc_info: object) -> None:
            tasks.append(asyncio.current_task())
            await super().__aexit__()

    with Noting(database_url).with_async_env():
        pass
    assert tasks[0] is tasks[1] is not None


def test_a_loop_stays_connected_between_blocks(cast: Cast, loop: asyncio.AbstractEventLoop) -> None:
    """Scenario 53."""
    before = cast.models.database.stats().connects
    for _ in range(100):
        with cast.models.with_loop(loop):
            assert names(cast) == ["Ada"]
    assert cast.models.database.stats().connects == before + 1
    assert cast.models.is_connected

    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert not cast.models.is_connected


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_loop_that_is_closed_without_a_word_gives_its_count_back(
    cast: Cast, loop: asyncio.AbstractEventLoop
) -> None:
    forgotten = asyncio.new_event_loop()
    with cast.models.with_loop(forgotten):
        names(cast)
    with pytest.warns(UnclosedDatabaseWarning, match="closed with 1 connections"):
        forgotten.close()
        with cast.models.with_loop(loop):
            names(cast)
    gc.collect()
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert not cast.models.is_connected


def test_force_disconnects_a_warm_loop(cast: Cast, loop: asyncio.AbstractEventLoop) -> None:
    with cast.models.with_loop(loop):
        names(cast)
    run_sync(cast.models.disconnect(force=True), loop=loop)
    assert not cast.models.is_connected
    with cast.models.with_loop(loop):
        assert names(cast) == ["Ada"]


def test_refresh_reaches_a_warm_loop_that_is_idle(
    cast: Cast, loop: asyncio.AbstractEventLoop
) -> None:
    with cast.models.with_loop(loop):
        names(cast)
    before = cast.models.database.stats().connects
    asyncio.run(cast.models.refresh())
    with cast.models.with_loop(loop):
        for _ in range(2):
            assert names(cast) == ["Ada"]
    assert cast.models.database.stats().connects == before + 1


def test_threads_may_warm_up_a_loop_at_the_same_time(
    cast: Cast, loop: asyncio.AbstractEventLoop
) -> None:
    def use(_: int) -> list[str]:
        with cast.models.with_loop(loop):
            return names(cast)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(use, range(40))) == [["Ada"]] * 40
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert not cast.models.is_connected


@pytest.mark.postgres
def test_nobody_is_connected_after_the_block(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url)
    with Registry(database).with_async_env():
        run_sync(database.ping())
        assert len(postgres.sessions(database=name)) == 1
    wait_until(lambda: not postgres.sessions(database=name), 1)


def test_green_threads_are_refused(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    class Patched:
        @staticmethod
        def is_module_patched(name: str) -> bool:
            return name == "threading"

    monkeypatch.setitem(__import__("sys").modules, "gevent.monkey", Patched)
    with pytest.raises(ConfigurationError, match="gevent has replaced"):
        cast.models.wsgi(lambda environ, start_response: [])
    with pytest.raises(ConfigurationError, match="gevent"), cast.models.with_async_env():
        raise AssertionError("not reached")


def test_the_environment_of_a_connect_that_hangs_can_be_interrupted(
    proxy: Proxy, postgres_url: str
) -> None:
    proxy.set_mode("stall")
    database = Database(proxy.url_for(postgres_url), connect_timeout=0.3, startup_timeout=0)
    with pytest.raises(TimeoutError), Registry(database).with_async_env():
        raise AssertionError("not reached")
    proxy.set_mode("pass")
