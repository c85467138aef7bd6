"""Synchronous code that is called from asynchronous code, and asks the database itself."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import anyio.to_thread
import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

from asgi_dbconn import DeadlockError, Registry, run_sync
from tests.loops.situations import loop_in_thread, open_loop
from tests.models import Cast, make_cast
from tests.support.leftovers import threads_now

COLOUR: ContextVar[str] = ContextVar("colour", default="grey")


@pytest.fixture
async def cast(database_url: str) -> Any:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="Ada")
        yield cast


def count(cast: Cast) -> int:
    found: int = run_sync(cast.User.query.count())
    return found


async def test_sync_runs_it_on_this_loop_while_the_loop_goes_on(cast: Cast) -> None:
    """Scenario 49."""
    before = len(threads_now())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def loop_and_task() -> tuple[object, object]:
        return asyncio.get_running_loop(), asyncio.current_task()

    def work(colour: str, *, times: int) -> list[Any]:
        COLOUR.set(colour)
        return [*(count(cast) for _ in range(times)), run_sync(loop_and_task())]

    ticking = asyncio.create_task(tick())
    *counts, where = await cast.models.sync(work, "red", times=3)
    ticking.cancel()

    assert counts == [1, 1, 1]
    assert where == (asyncio.get_running_loop(), asyncio.current_task())
    assert ticks > 3
    assert COLOUR.get() == "red"
    assert cast.models.database.stats().loops == 1
    assert len(threads_now()) <= before + 1  # aiosqlite's connections are threads


async def test_sync_joins_the_transaction_that_is_open(cast: Cast) -> None:
    """Scenario 50: on the connection that is held, and without a hang."""

    def write() -> int:
        run_sync(cast.User.query.create(name="Bob"))
        return count(cast)

    with pytest.raises(KeyError):
        async with cast.models.transaction():
            assert await cast.models.sync(write) == 2
            raise KeyError

    assert await cast.User.query.count() == 1


async def test_sync_raises_what_the_function_raises(cast: Cast) -> None:
    def fail() -> None:
        count(cast)
        raise KeyError("a")

    with pytest.raises(KeyError):
        await cast.models.sync(fail)


async def test_a_loop_that_holds_a_transaction_is_not_blocked(cast: Cast) -> None:
    """Scenario 50, by a call that would block the loop: refused with a way out, not a hang."""
    async with cast.models.transaction():
        with pytest.raises(DeadlockError, match=r"database 'default'.*models\.sync"):
            count(cast)
        assert await cast.User.query.count() == 1


@pytest.mark.parametrize("is_running", [False, True])
async def test_it_is_not_blocked_by_work_on_a_loop_that_was_chosen(
    cast: Cast, is_running: bool
) -> None:
    """Scenario 50: another loop cannot use the connection, and this one waits for it."""

    def count_on(loop: asyncio.AbstractEventLoop) -> int:
        found: int = run_sync(cast.User.query.count(), loop=loop)
        return found

    other = loop_in_thread() if is_running else open_loop()
    with other as loop:
        async with cast.models.transaction():
            with pytest.raises(DeadlockError, match=r"database 'default'.*models\.sync"):
                count_on(loop)
            assert await cast.models.sync(count, cast) == 1


async def test_a_thread_in_a_transaction_is_told_when_its_loop_is_blocked(cast: Cast) -> None:
    """Scenario 50: another task blocks the loop, and waits for that very thread."""
    entered, blocked = threading.Event(), threading.Event()
    told: Future[str] = Future()

    def count_meanwhile() -> None:
        entered.set()
        assert blocked.wait(10)
        with pytest.raises(DeadlockError) as refused:
            count(cast)
        told.set_result(str(refused.value))

    async def transact() -> None:
        async with cast.models.transaction():
            await asyncio.to_thread(count_meanwhile)

    async def wait_for_the_thread() -> str:
        blocked.set()
        return await asyncio.wrap_future(told)

    transaction = asyncio.create_task(transact())
    await asyncio.to_thread(entered.wait, 10)
    text = run_sync(wait_for_the_thread(), 10)
    await transaction

    assert "database 'default'" in text
    assert "models.sync" in text


async def test_outside_of_a_transaction_a_subloop_helps_out(cast: Cast) -> None:
    assert count(cast) == 1
    assert cast.models.database.stats().loops == 2


async def test_refresh_does_not_wait_for_the_loop_that_waits_for_it(cast: Cast) -> None:
    before = cast.models.database.stats().connects
    run_sync(cast.models.refresh(), 10)
    for _ in range(2):
        await cast.User.query.count()
    assert cast.models.database.stats().connects == before + 1


async def test_a_thread_of_the_application_uses_its_loop_and_its_pool(cast: Cast) -> None:
    """As an endpoint does that is a plain function."""

    async def loop() -> object:
        return asyncio.get_running_loop()

    here = asyncio.get_running_loop()
    for run in (asyncio.to_thread, anyio.to_thread.run_sync):
        assert await run(count, cast) == 1
        assert await run(lambda: run_sync(loop())) is here
    assert cast.models.database.stats().loops == 1


async def test_a_thread_joins_the_transaction_it_was_started_in(cast: Cast) -> None:
    with pytest.raises(KeyError):
        async with cast.models.transaction():
            await asyncio.to_thread(lambda: run_sync(cast.User.query.create(name="Bob")))
            assert await cast.User.query.count() == 2
            raise KeyError
    assert await cast.User.query.count() == 1


async def test_beside_asgiref_the_applications_loop_does_the_work(cast: Cast) -> None:
    """Scenario 51: Django's way to run a synchronous view."""
    async with ThreadSensitiveContext():  # as Django does for every request
        assert await sync_to_async(count, thread_sensitive=True)(cast) == 1
    assert cast.models.database.stats().loops == 1


def test_beside_asgirefs_own_loop_nothing_waits_for_itself(database_url: str) -> None:
    """Scenario 51: a synchronous view that asgiref calls from a loop of its own."""
    cast = make_cast(Registry(database_url))

    async def view() -> int:
        async with cast.models:
            await cast.models.create_all()
            return await sync_to_async(count, thread_sensitive=True)(cast)

    assert async_to_sync(view)() == 0


def test_a_block_may_be_left_in_another_context(database_url: str) -> None:
    """Scenario 55."""
    models = Registry(database_url)
    block = models.with_async_env()
    contextvars.copy_context().run(block.__enter__)
    assert models.is_connected
    contextvars.copy_context().run(block.__exit__, None, None, None)
    assert not models.is_connected


def test_a_subloop_ends_after_its_pool(database_url: str) -> None:
    """Scenario 57: no connection is left for the garbage collector to complain of."""
    cast = make_cast(Registry(database_url))

    async def main() -> int:
        async with cast.models:
            await cast.models.create_all()
            return count(cast)

    assert asyncio.run(main()) == 0
