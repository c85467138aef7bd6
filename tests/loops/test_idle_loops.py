"""A loop that nobody runs is run by whoever calls, one at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from asgi_dbconn import run_sync
from tests.loops.situations import LoopFactory, in_threads, open_loop, run


async def here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_inside_of_a_running_loop_everything_is_as_before_afterwards(factory: LoopFactory) -> None:
    """Scenario 28."""

    async def outer() -> None:
        mine, task = asyncio.get_running_loop(), asyncio.current_task()
        with open_loop(factory) as idle:
            assert run_sync(here(), loop=idle) is idle
            assert asyncio.get_running_loop() is mine
            assert asyncio.current_task() is task
            await asyncio.sleep(0)
            assert not idle.is_running()

    run(outer(), factory)


def test_threads_take_turns_on_it(factory: LoopFactory) -> None:
    """Scenario 29."""
    with open_loop(factory) as loop:

        def fifty(_: int) -> list[Any]:
            return [run_sync(here(), loop=loop) for _ in range(50)]

        outcomes = in_threads(4, fifty)
        assert outcomes == [[loop] * 50] * 4
        assert not loop.is_running()


def test_a_job_stays_in_the_thread_that_began_it(factory: LoopFactory) -> None:
    """SQLAlchemy's greenlets could not go on in another one."""

    async def threads() -> set[threading.Thread]:
        seen = set()
        for _ in range(5):
            seen.add(threading.current_thread())
            await asyncio.sleep(0.001)
        return seen

    with open_loop(factory) as loop:
        for seen in in_threads(4, lambda _: run_sync(threads(), loop=loop)):
            assert len(seen) == 1


def test_waiting_for_a_turn_counts_as_waiting(factory: LoopFactory) -> None:
    """A thread that waits for its turn is under its timeout already."""
    begun, may_end = threading.Event(), threading.Event()

    async def long() -> None:
        begun.set()
        may_end.wait(10)

    with open_loop(factory) as loop:
        driver = threading.Thread(target=lambda: run_sync(long(), loop=loop))
        driver.start()
        assert begun.wait(5)
        started = time.monotonic()
        try:
            run_sync(here(), 0.1, loop=loop)
        except TimeoutError:
            took = time.monotonic() - started
        else:
            took = -1.0
        may_end.set()
        driver.join()
        assert 0.1 <= took < 2


def test_a_stop_left_over_from_before_is_not_meant(factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        loop.call_soon(loop.stop)
        assert run_sync(here(), loop=loop) is loop


def test_its_own_task_factory_is_used(factory: LoopFactory) -> None:
    made: list[Any] = []

    def make(loop: Any, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    with open_loop(factory) as loop:
        loop.set_task_factory(make)
        assert run_sync(here(), loop=loop) is loop
        assert made
