"""The second loop of code that blocks the first: one per parent, and gone with it."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import weakref
from functools import partial
from typing import Any

import pytest

from asgi_dbconn import NestingError, run_sync
from asgi_dbconn.loops.managed_loop import managed_loop_of, subloop_of
from tests.loops.situations import LoopFactory, forever, in_threads, open_loop, run
from tests.support.waiting import wait_until


async def here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


async def thread() -> threading.Thread:
    return threading.current_thread()


def test_one_per_parent_and_of_its_kind(factory: LoopFactory) -> None:
    """Scenario 3."""

    async def outer() -> None:
        first, second = run_sync(here()), run_sync(here())
        assert first is second
        assert first is not asyncio.get_running_loop()
        assert type(first) is type(asyncio.get_running_loop())

    run(outer(), factory)


def test_it_ends_when_its_parent_is_closed(factory: LoopFactory) -> None:
    """Scenario 15."""
    parent = factory()

    async def outer() -> tuple[Any, threading.Thread]:
        return run_sync(here()), run_sync(thread())

    subloop, its_thread = parent.run_until_complete(outer())
    assert its_thread.is_alive()

    parent.close()
    its_thread.join(5)

    assert subloop.is_closed()


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_it_ends_when_its_parent_is_collected() -> None:
    """Scenario 16. asyncio only: an unclosed uvloop is never collected."""
    parent = asyncio.SelectorEventLoop()

    async def outer() -> threading.Thread:
        return run_sync(thread())

    its_thread = parent.run_until_complete(outer())
    died = weakref.ref(parent)
    del parent
    gc.collect()

    its_thread.join(5)
    assert died() is None
    assert not its_thread.is_alive()


def test_an_idle_one_does_nothing_at_all(factory: LoopFactory) -> None:
    """Scenario 17."""

    async def usage() -> Any:
        return resource.getrusage(resource.RUSAGE_THREAD)

    async def outer() -> None:
        run_sync(usage())
        before = run_sync(usage())
        await asyncio.sleep(1.0)  # the time in which it must not wake up
        after = run_sync(usage())
        # It went to sleep once after each call.
        assert after.ru_nvcsw - before.ru_nvcsw <= 3

    run(outer(), factory)


def _subloop(parent: asyncio.AbstractEventLoop, _: int) -> Any:
    return subloop_of(parent)


def test_threads_that_ask_at_once_get_the_same_one(factory: LoopFactory) -> None:
    """Scenario 18."""
    for _ in range(30):
        with open_loop(factory) as parent:
            own = in_threads(4, partial(_subloop, parent))
            assert len(set(own)) == 1
            its_thread = own[0]._thread
        its_thread.join(5)


def test_many_short_lived_loops_leave_no_threads_behind() -> None:
    """Scenario 19."""
    most = 0

    async def outer() -> None:
        nonlocal most
        run_sync(here())
        most = max(most, threading.active_count())

    before = threading.active_count()
    for _ in range(200):
        run(outer())

    assert most - before <= 8


def test_its_background_tasks_are_cancelled_at_its_end(factory: LoopFactory) -> None:
    """Scenario 20."""
    unwound = threading.Event()
    tasks: list[asyncio.Task[None]] = []

    async def linger() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            unwound.set()

    async def start() -> None:
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    async def outer() -> None:
        run_sync(start())

    run(outer(), factory)
    assert unwound.wait(5)
    wait_until(tasks[0].cancelled, 5)


def test_clean_ups_run_on_it_before_its_tasks_are_cancelled(factory: LoopFactory) -> None:
    said: list[str] = []
    ended = threading.Event()

    async def linger() -> None:
        try:
            await forever()
        finally:
            said.append("task")
            ended.set()

    async def start() -> None:
        task = asyncio.create_task(linger())
        own = managed_loop_of(asyncio.get_running_loop())
        assert own is not None

        async def clean_up() -> None:
            assert not task.done()
            said.append("clean-up")

        own.add_cleanup(clean_up)
        await asyncio.sleep(0)

    async def outer() -> None:
        run_sync(start())

    run(outer(), factory)
    assert ended.wait(5)
    assert said == ["clean-up", "task"]


def test_its_async_generators_are_shut_down(factory: LoopFactory) -> None:
    ended = threading.Event()

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.set()

    kept = numbers()

    async def outer() -> None:
        assert run_sync(anext(kept)) == 1

    run(outer(), factory)
    assert ended.wait(5)


def test_stopping_it_from_inside_does_not_end_it(factory: LoopFactory) -> None:
    async def stop() -> Any:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def outer() -> None:
        assert run_sync(stop()) is run_sync(here())

    run(outer(), factory)


def test_levels_have_threads_of_their_own(factory: LoopFactory) -> None:
    """Scenario 23."""

    async def level(depth: int) -> list[threading.Thread]:
        below = run_sync(level(depth - 1)) if depth else []
        return [threading.current_thread(), *below]

    threads = run(level(3), factory)

    assert len(set(threads)) == 4


def test_a_recursion_without_end_ends(factory: LoopFactory) -> None:
    """Scenario 24."""

    async def again() -> None:
        run_sync(again())

    with pytest.raises(NestingError, match="recursion"):
        run(again(), factory)


def test_a_loop_class_that_wants_arguments_gets_a_plain_subloop() -> None:
    class Named(asyncio.SelectorEventLoop):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    async def outer() -> None:
        assert run_sync(here()) is not asyncio.get_running_loop()

    run(outer(), lambda: Named("mine"))
