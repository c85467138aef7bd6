"""Work that is cancelled or interrupted at any moment: no connection and no permit is lost."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from asgi_dbconn import Database
from tests.faults.backends import active, alive, pids, sampled
from tests.support.environments import ROOT
from tests.support.leftovers import wait_until, wait_until_async
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres

LATEST = 0.08
"""Seconds after which the last task of a storm has been cancelled."""
SIZE = 10
AT_ONCE = 50

Work = Callable[[], Coroutine[Any, Any, None]]


async def by_cancel(work: Work, moments: list[float]) -> None:
    loop = asyncio.get_running_loop()
    tasks = [asyncio.ensure_future(work()) for _ in moments]
    for task, moment in zip(tasks, moments, strict=True):
        loop.call_later(moment, task.cancel)
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome


async def by_wait_for(work: Work, moments: list[float]) -> None:
    async def bounded(moment: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(work(), moment)

    await asyncio.gather(*(bounded(moment) for moment in moments))


class _Enough(Exception):
    pass


async def by_task_group(work: Work, moments: list[float]) -> None:
    async def fail(moment: float) -> None:
        await asyncio.sleep(moment)
        raise _Enough

    async def together(some: list[float]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in some:
                    group.create_task(work())
                group.create_task(fail(some[0]))
        except* _Enough:
            pass

    await asyncio.gather(*(together(moments[at : at + 5]) for at in range(0, len(moments), 5)))


async def by_cancel_scope(work: Work, moments: list[float]) -> None:
    async def bounded(moment: float) -> None:
        with anyio.move_on_after(moment):
            await work()

    async with anyio.create_task_group() as group:
        for delay in moments:
            group.start_soon(bounded, delay)


@pytest.mark.parametrize("cancelled", [by_cancel, by_wait_for, by_task_group, by_cancel_scope])
async def test_a_storm_of_cancellations_leaks_nothing(
    postgres: PostgresServer,
    postgres_url: str,
    cancelled: Callable[[Work, list[float]], Awaitable[None]],
) -> None:
    """Scenario 32."""
    chance = random.Random(32)
    async with Database(postgres_url, pool_size=SIZE) as database:

        async def work() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(
                    text("SELECT pg_sleep(:seconds)"), {"seconds": chance.choice((0, 0, 0.005, 60))}
                )

        with sampled(postgres, postgres_url) as samples:
            for _ in range(1000 // AT_ONCE):
                await cancelled(work, [chance.uniform(0, LATEST) for _ in range(AT_ONCE)])

        assert database.stats().acquired > SIZE  # not all of them were still in the queue
        await wait_until_async(
            lambda: not active(postgres, postgres_url),
            1,
            message=lambda: f"{len(active(postgres, postgres_url))} statements were cancelled",
        )
        await wait_until_async(
            lambda: len(alive(postgres, postgres_url)) == database.stats().idle <= SIZE, 1
        )
        await wait_until_async(lambda: database.stats().in_use == 0, 1)
        assert database.stats().waiting == 0
        assert len(await pids(database, SIZE)) == SIZE
        assert len(alive(postgres, postgres_url)) == SIZE
        # A sample may also see those that the server is about to end.
        assert max(samples) <= SIZE


@pytest.mark.parametrize("times", [2, 3, 1000], ids=["twice", "three times", "until it ends"])
async def test_a_query_whose_task_is_cancelled_again_ends_on_the_server(
    postgres: PostgresServer, postgres_url: str, times: int
) -> None:
    """Scenario 32, with cancellations that come before the first one is done with.

    The scopes of anyio send one at every turn of the loop until the task has ended.
    """
    async with Database(postgres_url, pool_size=1) as database:

        async def query() -> None:
            async with database.connection() as connection:
                await connection.execute(text("SELECT pg_sleep(60)"))

        querying = asyncio.create_task(query())
        await wait_until_async(lambda: active(postgres, postgres_url), 5)
        for _ in range(times):
            querying.cancel()
            await asyncio.sleep(0)
            if querying.done():
                break
        with pytest.raises(asyncio.CancelledError):
            await querying
        await wait_until_async(
            lambda: not active(postgres, postgres_url), 1, message="the statement was cancelled"
        )
        await database.ping()


async def test_a_connection_attempt_keeps_its_place_when_its_acquire_is_cancelled(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 32, on a network that lets attempts hang: no more of them than places."""
    async with (
        Database(proxy.url_for(postgres_url), pool_size=2) as database,
        database.connection(),
    ):
        await asyncio.to_thread(proxy.set_mode, "stall")
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await database.engine.connect()
        await asyncio.to_thread(proxy.set_mode, "pass")
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

        # The one of this block, one attempt that was left to itself, and one that was not.
        assert proxy.connections <= 3


async def test_a_permit_granted_to_a_cancelled_waiter_goes_to_the_next(postgres_url: str) -> None:
    """Scenario 33."""
    async with Database(postgres_url, pool_size=1) as database:
        engine = database.engine

        async def borrow() -> None:
            async with engine.connect():
                pass

        for turn in range(10_000):
            holder = await engine.connect()
            first, second = asyncio.create_task(borrow()), asyncio.create_task(borrow())
            await asyncio.sleep(0)
            await holder.close()
            # Granted to the first one, which does not know it yet: no turn of the loop has passed.
            assert (database.stats().in_use, database.stats().waiting) == (1, 1)
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            first.cancel()
            await second
            with suppress(asyncio.CancelledError):
                await first

        assert database.stats().timeouts == 0
        assert (database.stats().in_use, database.stats().waiting) == (0, 0)
        await database.ping()
        assert database.stats().connects == 1


BLOCKS: dict[str, Callable[[Database], Any]] = {
    "connection": lambda database: database.connection(),
    "session": lambda database: database.session(),
    "transaction": lambda database: database.transaction(),
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_block_gives_its_connection_back(
    postgres_url: str, block: str, error: type[BaseException]
) -> None:
    """Scenario 34, on a loop that goes on."""
    database = Database(postgres_url, pool_size=1, acquire_timeout=1)

    async def create() -> None:
        async with database.connection() as connection:
            await connection.execute(text("CREATE TABLE t (n int)"))

    async def interrupted() -> None:
        async with BLOCKS[block](database) as entered:
            executor = entered if hasattr(entered, "execute") else entered.connection
            await executor.execute(text("INSERT INTO t VALUES (1)"))
            raise error

    async def rows() -> int:
        async with database.connection() as connection:
            return int((await connection.execute(text("SELECT count(*) FROM t"))).scalar_one())

    with asyncio.Runner() as runner:
        runner.run(database.connect())
        runner.run(create())
        with pytest.raises(error):
            runner.run(interrupted())
        assert database.stats().in_use == 0
        assert runner.run(rows()) == 0  # as with any other error
        runner.run(database.disconnect())


@pytest.mark.parametrize("way", ["waiting", "leaving"])
def test_an_interrupted_program_leaves_nothing_on_the_server(
    postgres: PostgresServer, postgres_url: str, way: str
) -> None:
    """Scenario 34, in a program that is ended by Ctrl-C, or by one of its tasks."""
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.faults.interrupted", way, postgres_url],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if way == "waiting":
            wait_until(lambda: len(active(postgres, postgres_url)) == 3, 10)
            program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=10)
    finally:
        program.kill()
        program.wait()

    wait_until(lambda: not alive(postgres, postgres_url), 1)
    if way == "leaving":
        assert (program.returncode, told) == (3, "")
    else:
        assert program.returncode == -signal.SIGINT
        assert told.rstrip().endswith("KeyboardInterrupt")
        assert "never retrieved" not in told
        assert "Warning" not in told
