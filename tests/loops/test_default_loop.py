"""The loop of a block, of its context, of the process; and the application's own loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio.to_thread
import pytest

from asgi_dbconn import LoopGoneError, run_sync
from asgi_dbconn.loops import deadlines, default_loop
from asgi_dbconn.loops.default_loop import Environment, current_environment, process_default
from asgi_dbconn.loops.managed_loop import ManagedLoop, managed_loop_of
from tests.loops.situations import LoopFactory, forever, in_threads, open_loop, run
from tests.support.stopwatch import taking


async def here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@contextmanager
def home(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    default_loop.register_app_loop(loop)
    try:
        yield
    finally:
        default_loop.unregister_app_loop(loop)


def test_a_block_runs_everything_on_one_loop_and_closes_it() -> None:
    """Scenario 32."""
    with Environment.choose() as outer:
        first = run_sync(here())
        assert first is outer.loop
        with Environment.choose() as inner, Environment.choose():
            assert inner is outer
            assert run_sync(here()) is first
        assert not first.is_closed()
        assert current_environment() is outer
    assert first.is_closed()
    assert current_environment() is None
    assert process_default() is None


def test_the_same_object_can_be_nested_and_used_again(factory: LoopFactory) -> None:
    """Scenario 33."""
    with open_loop(factory) as loop:
        environment = Environment.choose(loop)
        for _ in range(2):
            with environment, environment:
                assert run_sync(here()) is loop
            assert current_environment() is None
        assert not loop.is_closed()


def test_a_closed_loop_is_refused_and_nothing_has_changed() -> None:
    """Scenario 34, the part that needs no database."""
    with open_loop() as loop:
        pass
    with pytest.raises(LoopGoneError, match="closed"):
        Environment.choose(loop)
    assert current_environment() is None


def test_an_error_in_the_block_closes_its_loop_all_the_same() -> None:
    """Scenario 35, the part that needs no database."""
    with pytest.raises(LookupError), Environment.choose() as environment:
        raise LookupError
    assert environment.loop.is_closed()
    assert current_environment() is None


def test_a_given_loop_is_left_open(factory: LoopFactory) -> None:
    """Scenario 36."""
    with open_loop(factory) as loop:
        for _ in range(2):
            with Environment.choose(loop):
                assert run_sync(here()) is loop
            assert not loop.is_closed()


def test_the_end_cancels_background_tasks_after_the_clean_ups() -> None:
    """Scenario 37."""
    said: list[str] = []

    async def linger() -> None:
        try:
            await forever()
        finally:
            said.append("task")

    async def start() -> None:
        said.append("started")
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    async def clean_up(word: str) -> None:
        said.append(word)

    tasks: list[Any] = []
    with Environment.choose() as environment:
        run_sync(start())
        assert environment.managed is not None
        environment.managed.add_cleanup(lambda: clean_up("first registered"))
        environment.managed.add_cleanup(lambda: clean_up("last registered"))
    assert said == ["started", "last registered", "first registered", "task"]
    assert tasks[0].cancelled()


def test_a_clean_up_that_fails_is_logged_and_the_loop_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise LookupError("in the clean-up")

    with Environment.choose() as environment:
        assert environment.managed is not None
        environment.managed.add_cleanup(fail)
    assert environment.loop.is_closed()
    assert "in the clean-up" in caplog.text


def test_inside_of_a_running_loop_its_subloop_is_used(factory: LoopFactory) -> None:
    """Scenario 38."""

    async def outer() -> None:
        with Environment.choose() as environment:
            assert environment.loop is asyncio.get_running_loop()
            found = run_sync(here())
            assert found is not asyncio.get_running_loop()
            assert managed_loop_of(found) is not None

    run(outer(), factory)


def test_asyncio_run_inside_of_a_block_works(factory: LoopFactory) -> None:
    """Scenario 39."""
    with Environment.choose() as environment:
        assert run(here(), factory) is not environment.loop
        assert run_sync(here()) is environment.loop


def test_any_number_of_threads_share_the_loop_of_a_block() -> None:
    """Scenario 30. It gets a thread of its own when a second thread comes."""
    ran_in = set()

    async def short() -> Any:
        ran_in.add(threading.current_thread())
        await asyncio.sleep(0.002)
        return asyncio.get_running_loop()

    with Environment.choose() as environment:
        assert run_sync(short()) is environment.loop
        assert ran_in == {threading.current_thread()}
        with taking(
            most=80 * deadlines.OWNERSHIP_WAIT / 8
        ):  # as if each of theirs had waited for a turn
            found = in_threads(8, lambda _: {run_sync(short()) for _ in range(10)})
        assert found == [{environment.loop}] * 8
        assert run_sync(short()) is environment.loop
    assert environment.loop.is_closed()
    assert len(ran_in) <= 2


def test_jobs_of_several_threads_run_side_by_side() -> None:
    """Scenario 30. Each needs the others, so one after the other they would never end."""
    count = 5
    arrived: list[int] = []
    everybody = asyncio.Event()

    async def meet() -> int:
        arrived.append(1)
        if len(arrived) == count:
            everybody.set()
        await everybody.wait()
        return len(arrived)

    with Environment.choose():
        run_sync(here())
        assert in_threads(count, lambda _: run_sync(meet(), 10)) == [count] * count


def test_a_worker_below_a_block_does_not_wait_for_its_driver() -> None:
    """Scenario 48."""

    async def inner() -> Any:
        loop = asyncio.get_running_loop()
        by_context = await asyncio.to_thread(lambda: run_sync(here()))
        without = await loop.run_in_executor(None, lambda: run_sync(here()))
        return {loop, by_context, without}

    with Environment.choose() as environment:
        assert run_sync(inner()) == {environment.loop}


def test_a_thread_that_inherits_the_context_gets_the_loop_too() -> None:
    """Scenario 54. Free-threaded Python hands the context to new threads."""
    with Environment.choose() as environment:
        context = contextvars.copy_context()
        found: list[Any] = []
        thread = threading.Thread(
            target=context.run, args=(lambda: found.append(run_sync(here())),)
        )
        thread.start()
        thread.join()
        assert found == [environment.loop]


def test_a_block_may_be_left_in_another_context_or_thread() -> None:
    """Scenario 55."""
    elsewhere = contextvars.copy_context()
    environment = elsewhere.run(lambda: Environment.choose().__enter__())
    environment.__exit__(None, None, None)
    assert environment.loop.is_closed()

    environment = Environment.choose().__enter__()
    assert in_threads(1, lambda _: environment.__exit__(None, None, None)) == [None]
    assert environment.loop.is_closed()
    assert process_default() is None
    contextvars.copy_context().run(lambda: None)
    assert run_sync_elsewhere() is not environment.loop


def run_sync_elsewhere() -> Any:
    return in_threads(1, lambda _: run_sync(here()))[0]


def test_threadpool_endpoints_use_the_applications_loop(factory: LoopFactory) -> None:
    """Scenario 27."""

    async def application() -> None:
        loop = asyncio.get_running_loop()
        with home(loop):
            threads = threading.active_count()
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(endpoint, loop)
            assert threading.active_count() - threads <= 10  # the workers, and no subloop

    async def endpoint(loop: Any) -> None:
        assert await anyio.to_thread.run_sync(run_sync, here()) is loop

    run(application(), factory)


def test_a_home_that_is_closed_or_idle_elsewhere_is_not_used(factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        with home(loop):
            assert run_sync(here()) is loop  # idle, but this is its thread
            assert run_sync_elsewhere() is not loop  # it might be about to go on
    default_loop.register_app_loop(loop)
    assert run_sync(here()) is not loop
    default_loop.unregister_app_loop(loop)


def test_an_awaitable_may_prefer_a_loop(factory: LoopFactory) -> None:
    class Query:
        def __init__(self, loop: Any) -> None:
            self.loop = loop

        def __asgi_dbconn_loop__(self) -> Any:
            return self.loop

        def __await__(self) -> Any:
            return here().__await__()

    async def application() -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(run_sync, Query(loop)) is loop
        assert await asyncio.to_thread(run_sync, Query(None)) is not loop
        with open_loop(factory) as other:
            given = await asyncio.to_thread(lambda: run_sync(Query(loop), loop=other))
            assert given is other
        assert run_sync(Query(loop)) is not loop  # one runs here, and would be blocked

    run(application(), factory)


def test_a_loop_of_ours_can_have_a_thread_from_the_start() -> None:
    own = ManagedLoop()
    own.start("for the test")
    assert in_threads(3, lambda _: run_sync(here(), loop=own.loop)) == [own.loop] * 3
    own.close()
    own.close()
    assert own.loop.is_closed()
    with pytest.raises(LoopGoneError):
        run_sync(here(), loop=own.loop)
