"""An isolated database on other loops and in other threads: forwarded, or refused, and no hang."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from asgi_dbconn import (
    DeadlockError,
    LoopError,
    LoopGoneError,
    Registry,
    UnclosedDatabaseWarning,
    run_sync,
)
from tests.databases.connected import add_in_vain, connected, names
from tests.models import Cast, make_cast
from tests.support.environments import ROOT
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until_async


async def elsewhere(work: Callable[[], Awaitable[Any]]) -> Any:
    """Do ``work`` on an event loop of its own, in a thread of its own, while this one runs on."""

    async def main() -> Any:
        return await work()

    return await asyncio.to_thread(asyncio.run, main())


async def test_queries_of_another_loop_are_a_part_of_it(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.rollback():
            await cast.User.query.create(name="ada")

            async def work() -> list[str]:
                await cast.User.query.create(name="bob")
                with pytest.raises(IntegrityError):
                    await cast.User.query.create(name="ada")
                return await names(cast)

            assert await elsewhere(work) == ["ada", "bob"]
            assert await names(cast) == ["ada", "bob"]
        assert await names(cast) == []


async def test_transactions_of_another_loop_are_savepoints_too(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.rollback():
            called: list[object] = []

            async def work() -> None:
                async with cast.models.transaction() as outer:
                    await cast.User.query.create(name="ada")
                    await add_in_vain(cast, "bob")
                    await asyncio.gather(*(cast.User.query.create(name=f"u{n}") for n in range(3)))
                    outer.on_commit(lambda: called.append(asyncio.get_running_loop()))
                called.append(asyncio.get_running_loop())
                async with cast.models.transaction() as undone:
                    await cast.User.query.create(name="cyd")
                    await undone.rollback()
                    await cast.User.query.create(name="dan")

            await elsewhere(work)
            assert len(called) == 2
            assert called[0] is called[1]  # where the block was left, not where the connection is
            assert await names(cast) == ["ada", "dan", "u0", "u1", "u2"]
        assert await names(cast) == []


async def test_the_connection_itself_stays_on_its_loop(database_url: str) -> None:
    async with connected(database_url) as cast, cast.models.rollback():

        async def work() -> None:
            for block in (cast.models.connection, cast.models.session):
                with pytest.raises(LoopError, match="isolated on another event loop"):
                    async with block():
                        pytest.fail("the block was entered")
            with pytest.raises(LoopError, match="isolated on another event loop"):
                _ = cast.models.database.engine
            async with cast.models.transaction() as transaction:
                with pytest.raises(LoopError, match="isolated on another event loop"):
                    _ = transaction.connection
                with pytest.raises(LoopError, match="another event loop"):
                    async with cast.models.connection():
                        pytest.fail("the block was entered")
                await cast.User.query.create(name="ada")

        await elsewhere(work)
        assert await names(cast) == ["ada"]


async def test_a_part_of_it_may_be_begun_elsewhere(database_url: str) -> None:
    async with connected(database_url) as cast, cast.models.rollback():

        async def work() -> None:
            async with cast.models.rollback():
                await cast.User.query.create(name="ada")
                assert await names(cast) == ["ada"]

        await elsewhere(work)
        assert await names(cast) == []


async def test_threads_without_a_loop_use_the_isolated_one(database_url: str) -> None:
    async with connected(database_url) as cast, cast.models.rollback():
        await asyncio.to_thread(run_sync, cast.User.query.create(name="ada"))
        assert await asyncio.to_thread(run_sync, cast.User.query.count()) == 1


async def test_synchronous_code_on_the_isolated_loop_is_told_at_once(database_url: str) -> None:
    async with connected(database_url) as cast, cast.models.rollback():
        with pytest.raises(DeadlockError, match="blocked by synchronous code"):
            run_sync(cast.User.query.count())
        # The remedy of the documentation.
        await cast.models.sync(partial(run_sync, cast.User.query.create(name="ada")))
        assert await names(cast) == ["ada"]


async def test_a_loop_that_is_blocked_by_foreign_code_is_not_waited_for_for_ever(
    database_url: str,
) -> None:
    async with connected(database_url, acquire_timeout=0.2) as cast:  # type: ignore[arg-type]
        async with cast.models.rollback():
            blocked, refused = threading.Event(), threading.Event()

            async def work() -> None:
                blocked.wait()
                with pytest.raises(DeadlockError, match="blocked by synchronous code"):
                    await cast.User.query.count()
                refused.set()

            waiting = asyncio.create_task(elsewhere(work))
            await asyncio.sleep(0)  # its thread begins
            blocked.set()
            assert refused.wait(20)  # blocks this loop
            await waiting


def test_a_loop_that_does_not_run_is_refused(sqlite_url: str) -> None:
    with asyncio.Runner() as runner:

        async def begin() -> tuple[Cast, Any]:
            block = connected(sqlite_url)
            cast = await block.__aenter__()
            isolation = cast.models.rollback()
            await isolation.__aenter__()

            async def end() -> None:
                await isolation.__aexit__(None, None, None)
                await block.__aexit__(None, None, None)

            return cast, end

        cast, end = runner.run(begin())

        async def work() -> None:
            with pytest.raises(LoopError, match="does not run at the moment"):
                await cast.User.query.count()

        asyncio.run(work())
        runner.run(end())


def test_a_loop_that_was_closed_without_a_word_is_gone(sqlite_url: str) -> None:
    loop = asyncio.new_event_loop()
    cast = make_cast(Registry(sqlite_url))

    async def begin() -> Any:
        await cast.models.connect()
        await cast.models.create_all()
        isolation = cast.models.rollback()
        await isolation.__aenter__()
        await cast.User.query.create(name="ada")
        return isolation

    isolation = loop.run_until_complete(begin())
    loop.close()

    async def work() -> list[str]:
        with pytest.raises(LoopGoneError, match="isolated on an event loop that has ended"):
            await cast.User.query.count()
        with pytest.warns(UnclosedDatabaseWarning):
            await isolation.__aexit__(None, None, None)
        left = await names(cast)
        await cast.models.disconnect()
        return left

    with pytest.warns(UnclosedDatabaseWarning):
        assert asyncio.run(work()) == []


def test_a_loop_that_ends_ends_its_isolation(database_url: str) -> None:
    entered, leave = threading.Event(), threading.Event()
    casts: list[Cast] = []

    async def hold() -> None:
        async with connected(database_url) as cast:
            casts.append(cast)
            isolation = cast.models.rollback()
            await isolation.__aenter__()  # and nobody leaves it
            await cast.User.query.create(name="ada")
            entered.set()
            await asyncio.to_thread(leave.wait)

    async def count() -> int:
        async with casts[0].models:
            number: int = await casts[0].User.query.count()
            return number

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    try:
        assert entered.wait(10)
        assert asyncio.run(count()) == 1
    finally:
        leave.set()
        thread.join()
    assert asyncio.run(count()) == 0


async def test_work_under_way_on_a_loop_that_ends_is_an_error(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with connected(postgres_url) as cast:
        begun = threading.Event()
        inside: list[asyncio.AbstractEventLoop] = []

        async def isolate() -> None:
            inside.append(asyncio.get_running_loop())
            async with cast.models.rollback():
                begun.set()
                await asyncio.Event().wait()

        thread = threading.Thread(target=_run_until_cancelled, args=(isolate,))
        thread.start()
        await asyncio.to_thread(begun.wait)
        asleep = asyncio.create_task(
            cast.models.database.run(
                lambda connection: connection.exec_driver_sql("SELECT pg_sleep(30)"),
                autocommit=True,
            )
        )
        name = postgres_url.rpartition("/")[2]
        await wait_until_async(
            lambda: any(
                "pg_sleep" in session.query for session in postgres.sessions(database=name)
            ),
            5,
        )
        inside[0].call_soon_threadsafe(_cancel_all, inside[0])
        with pytest.raises(LoopGoneError):
            await asleep
        await asyncio.to_thread(thread.join)


@pytest.mark.postgres
def test_a_forked_child_is_not_isolated_and_leaves_its_parents_isolation_alone(
    postgres_url: str,
) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.databases.forked_isolation", postgres_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stderr == ""
    saw = json.loads(ran.stdout)

    assert saw["child"] == {"answer": 1, "status": 0}  # it sees its own note, and keeps it
    assert (saw["before"], saw["isolated"], saw["after"]) == (1, 3, 2)


async def test_a_query_that_is_cancelled_here_is_cancelled_there(postgres_url: str) -> None:
    async with connected(postgres_url) as cast, cast.models.rollback():

        async def work() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await cast.models.database.run(
                        lambda connection: connection.exec_driver_sql("SELECT pg_sleep(30)"),
                        autocommit=True,
                    )

        async with asyncio.timeout(5):
            await elsewhere(work)


def _run_until_cancelled(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
