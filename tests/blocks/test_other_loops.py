"""Blocks of an isolated database whose connection belongs to another event loop.

A loop that is blocked or gone is never waited for without a limit. What ended the block leaves it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from asgi_dbconn import DeadlockError, LoopGoneError
from tests.blocks.children import CHILDREN
from tests.blocks.ends import LONGEST, BlockError, Run, end_by_return
from tests.blocks.kinds import KINDS, call_elsewhere
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import Stage, open_stage
from tests.support.waiting import wait_until_async


async def leave_while_blocked(
    stage: Stage, outcomes: list[BaseException | None], *, fails: bool
) -> float:
    """End a block elsewhere while this loop is blocked; return how long that took."""
    is_blocked, is_over = threading.Event(), threading.Event()
    seconds = [0.0]

    async def work() -> None:
        started = time.perf_counter()
        try:
            async with stage.models.transaction():
                await stage.create("own")
                async with stage.models.transaction():
                    await stage.create("inner")
                home.call_soon_threadsafe(block)
                await asyncio.to_thread(is_blocked.wait)
                started = time.perf_counter()
                if fails:
                    raise BlockError
        except BaseException as error:
            outcomes.append(error)
        finally:
            seconds[0] = time.perf_counter() - started
            is_over.set()

    def block() -> None:
        is_blocked.set()
        is_over.wait(10)

    home = asyncio.get_running_loop()
    await call_elsewhere(work)
    return seconds[0]


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
async def test_a_blocked_loop(database_url: str, other_process: OtherProcess, fails: bool) -> None:
    async with open_stage(database_url, other_process, acquire_timeout=0.5) as stage:
        outcomes: list[BaseException | None] = []
        with suppress(Exception):  # the isolation itself is lost
            async with stage.models.rollback():
                seconds = await leave_while_blocked(stage, outcomes, fails=fails)
                assert seconds < LONGEST
        assert [type(error) for error in outcomes] == [BlockError if fails else DeadlockError]
        assert stage.watcher.names() == []
        await stage.check()


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
def test_a_loop_that_is_gone(database_url: str, other_process: OtherProcess, fails: bool) -> None:
    is_isolated, is_written, is_gone = threading.Event(), threading.Event(), threading.Event()
    outcomes: list[BaseException | None] = []
    stages: list[Stage] = []

    async def isolate() -> None:
        async with stages[0].models.rollback():
            is_isolated.set()
            await asyncio.to_thread(is_written.wait)

    def run_home() -> None:
        with suppress(Exception):
            asyncio.run(isolate())
        is_gone.set()

    async def work() -> None:
        async with open_stage(database_url, other_process) as stage:
            stages.append(stage)
            thread = threading.Thread(target=run_home)
            thread.start()
            await asyncio.to_thread(is_isolated.wait)
            started = time.perf_counter()
            try:
                async with stage.models.transaction():
                    await stage.create("own")
                    is_written.set()
                    await asyncio.to_thread(is_gone.wait)
                    started = time.perf_counter()
                    if fails:
                        raise BlockError
            except BaseException as error:
                outcomes.append(error)
            assert time.perf_counter() - started < LONGEST
            await asyncio.to_thread(thread.join)
            await stage.check()

    asyncio.run(work())
    assert [type(error) for error in outcomes] == [BlockError if fails else LoopGoneError]


# -- the end of the isolation itself


async def _return() -> None: ...


async def _fail() -> None:
    raise BlockError


@pytest.mark.parametrize("end", [_return, _fail])
async def test_an_isolation_that_ends_while_a_statement_is_under_way(
    stage: Stage, end: Callable[[], Awaitable[None]]
) -> None:
    tasks: list[asyncio.Task[object]] = []
    with suppress(BlockError):
        async with stage.models.rollback():
            await stage.create("own")
            stage.watcher.hold()
            tasks.append(asyncio.ensure_future(stage.create("slow child")))
            await stage.until_held()
            asyncio.get_running_loop().call_later(0.05, stage.watcher.release)
            await end()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not tasks[0].cancelled()
    await stage.check()


async def test_a_child_of_a_block_elsewhere_holds_up_its_end(stage: Stage) -> None:
    async with stage.models.rollback():

        async def run_block() -> None:
            run = Run(stage, KINDS["transaction elsewhere"], CHILDREN["verb"])

            async def release_later() -> None:
                asyncio.get_running_loop().call_later(0.05, stage.watcher.release)

            run.on_ending = release_later
            await end_by_return(run)
            await run.settle()
            assert run.child_error is None

        await call_elsewhere(run_block)
        await wait_until_async(lambda: not stage.stats.in_use, 1)
        assert await stage.Item.query.count() == 2
    await stage.check()
