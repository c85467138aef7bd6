"""Every kind of leftover is found, and nothing else is taken for one."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import asyncpg
import pytest
import uvloop

from tests.support.leftovers import (
    assert_no_sessions,
    no_leftovers,
    open_loops,
    running_tasks,
    threads_now,
    wait_until,
    wait_until_async,
)
from tests.support.loop_thread import LoopThread
from tests.support.postgres import PostgresServer

NewLoop = Callable[[], asyncio.AbstractEventLoop]

each_loop = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@pytest.fixture
def cleaning() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@each_loop
def test_ordinary_work_leaves_nothing(new_loop: NewLoop) -> None:
    async def work() -> None:
        await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(int))

    with no_leftovers(), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work())


def test_a_thread_is_found(cleaning: ExitStack) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    cleaning.callback(thread.join)
    cleaning.callback(end.set)
    with pytest.raises(AssertionError, match="forgotten"), no_leftovers(within=0.1):
        thread.start()
    assert thread in threads_now()


def test_a_thread_that_ends_soon_is_no_leftover() -> None:
    end = threading.Event()
    ended = threading.Thread(target=end.wait)
    timer = threading.Timer(0.1, end.set)
    with no_leftovers():
        ended.start()
        timer.start()


@each_loop
def test_an_open_loop_is_found(cleaning: ExitStack, new_loop: NewLoop) -> None:
    with pytest.raises(AssertionError, match="open loop"), no_leftovers(within=0.1):
        loop = new_loop()
        cleaning.callback(loop.close)
    assert loop in open_loops()
    loop.close()
    assert loop not in open_loops()


@each_loop
def test_a_pending_task_is_found_even_if_its_loop_is_closed(
    cleaning: ExitStack, new_loop: NewLoop
) -> None:
    async def forgotten() -> None:
        await asyncio.Event().wait()

    # Nothing can finish such a task any more, but nothing refers to it once this test is over.
    cleaning.callback(gc.collect)
    loop = new_loop()
    with pytest.raises(AssertionError, match=r"task: .*forgotten"), no_leftovers(within=0.1):
        task = loop.create_task(forgotten())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert task in running_tasks()
    # This keeps it from complaining when it is collected.
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_task_that_was_left_in_a_running_loop_is_found() -> None:
    async def forgotten() -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        with pytest.raises(AssertionError, match=r"task: .*forgotten"), no_leftovers(within=0.1):
            task = asyncio.create_task(forgotten())
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with no_leftovers(within=0.1):
            await asyncio.create_task(asyncio.sleep(0))

    asyncio.run(run())


def test_the_infrastructure_is_no_leftover(cleaning: ExitStack) -> None:
    with no_leftovers(within=0.1):
        thread = cleaning.enter_context(LoopThread("test-something"))
        assert thread.run(asyncio.sleep(0, "ran")) == "ran"
    with pytest.raises(ValueError, match="must start with"):
        LoopThread("something")


def test_what_existed_before_is_no_leftover(cleaning: ExitStack) -> None:
    loop = asyncio.new_event_loop()
    cleaning.callback(loop.close)
    with no_leftovers(within=0.1):
        loop.run_until_complete(asyncio.sleep(0))


def test_the_error_of_the_block_is_passed_on(cleaning: ExitStack) -> None:
    with pytest.raises(ZeroDivisionError), no_leftovers(within=0.1):
        cleaning.callback(asyncio.new_event_loop().close)
        raise ZeroDivisionError


@pytest.mark.postgres
def test_an_open_session_is_found(postgres: PostgresServer) -> None:
    async def run() -> None:
        settings = {"application_name": "leaky"}
        connection = await asyncpg.connect(postgres.url, server_settings=settings)
        with pytest.raises(AssertionError, match="leaky"):
            assert_no_sessions(postgres, "leaky", within=0.1)
        await connection.close()

    asyncio.run(run())
    assert_no_sessions(postgres, "leaky")


def test_waiting_ends_with_the_deadline_or_the_condition() -> None:
    with pytest.raises(AssertionError, match=r"not true within 0\.05 s: never"):
        wait_until(lambda: False, 0.05, message="never")
    looks = iter([False, False, True])
    wait_until(lambda: next(looks), 1)
    wait_until(lambda: True, 0)

    async def run() -> None:
        with pytest.raises(AssertionError, match="never"):
            await wait_until_async(lambda: False, 0.05, message=lambda: "never")
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, event.set)
        await wait_until_async(event.is_set, 1)

    asyncio.run(run())
