"""What comes out of ``run_sync`` is what came out of the awaitable, wherever it ran."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from asgi_dbconn import run_sync
from tests.loops.situations import LoopFactory, Place, open_loop, run

colour: ContextVar[str] = ContextVar("colour", default="none")


def test_a_value_comes_back(place: Place) -> None:
    """Scenario 1."""

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert place.run(work) == 7


def test_the_threads_own_loop_is_left_alone() -> None:
    """Scenario 1."""

    def check() -> None:
        mine = asyncio.new_event_loop()
        asyncio.set_event_loop(mine)
        try:
            run_sync(asyncio.sleep(0))
            assert asyncio.get_event_loop_policy().get_event_loop() is mine
        finally:
            asyncio.set_event_loop(None)
            mine.close()

    thread = threading.Thread(target=check)
    thread.start()
    thread.join()


def test_an_idle_loop_is_used_and_idle_again(factory: LoopFactory) -> None:
    """Scenario 2."""

    async def where() -> Any:
        return asyncio.get_running_loop()

    with open_loop(factory) as loop:
        assert run_sync(where(), loop=loop) is loop
        assert not loop.is_running()
        assert loop.run_until_complete(where()) is loop
        assert run_sync(where(), loop=loop) is loop


def test_an_error_is_the_same_object_with_its_traceback(place: Place) -> None:
    """Scenario 4."""
    error = LookupError("not here")

    async def look_for_it() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(LookupError) as caught:
        place.run(look_for_it)

    assert caught.value is error
    assert "look_for_it" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_cancelled_work_raises_asyncios_error(place: Place) -> None:
    """Scenario 5."""

    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        place.run(work)


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopAsyncIteration, RuntimeError]
)
def test_whatever_the_work_raises_reaches_the_caller(
    place: Place, kind: type[BaseException]
) -> None:
    """Scenario 6."""
    calls: list[int] = []

    async def twice() -> None:
        calls.append(1)
        await asyncio.sleep(0)
        raise kind("out")

    for _ in range(2):  # and nothing is broken by it
        with pytest.raises(kind, match="out"):
            place.run(twice)
    assert len(calls) == 2


def test_a_subloop_survives_system_exit(factory: LoopFactory) -> None:
    """Scenario 6."""

    async def leave() -> None:
        raise SystemExit(3)

    async def where() -> Any:
        return asyncio.get_running_loop()

    async def outer() -> None:
        before = run_sync(where())
        with pytest.raises(SystemExit):
            run_sync(leave())
        assert run_sync(where()) is before

    run(outer(), factory)


def test_a_background_task_that_exits_does_not_end_its_subloop() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def start() -> Any:
        task = asyncio.create_task(leave())
        await asyncio.wait({task})
        with pytest.raises(SystemExit):
            task.result()
        return asyncio.get_running_loop()

    async def where() -> Any:
        return asyncio.get_running_loop()

    async def outer() -> None:
        assert run_sync(start()) is run_sync(where())

    run(outer())


def test_stop_iteration_is_a_runtime_error(place: Place) -> None:
    """Scenario 7."""

    async def work() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        place.run(work)


@pytest.mark.parametrize("thing", [7, None, asyncio.sleep, lambda: None])
def test_what_cannot_be_awaited_is_refused_before_anything_starts(thing: Any) -> None:
    """Scenario 8."""
    threads = threading.enumerate()

    async def outer() -> None:
        with pytest.raises(TypeError, match=r"run_sync\(work\(\)\)"):
            run_sync(thing)

    run(outer())
    assert threading.enumerate() == threads


def test_any_awaitable_will_do(place: Place) -> None:
    class Slow:
        def __await__(self) -> Generator[Any, None, str]:
            yield from asyncio.sleep(0).__await__()
            return "slow"

    assert place.run(Slow) == "slow"


def test_context_variables_go_in_and_come_back(place: Place) -> None:
    """Scenario 9."""

    async def work() -> str:
        seen = colour.get()
        colour.set("green")
        await asyncio.sleep(0)
        return seen

    token = colour.set("red")
    try:
        if place.name in {"below", "inside", "in_thread"}:  # the context is that of a task in there
            assert place.run(in_and_out) == ("red", "green", "green")
        else:
            assert place.run(work) == "red"
            assert colour.get() == "green"
    finally:
        colour.reset(token)


async def in_and_out() -> tuple[str, str, str]:
    """Inside of a job: another level, and what it changed."""
    seen = colour.get()

    async def change() -> str:
        colour.set("green")
        return colour.get()

    return seen, run_sync(change()), colour.get()


def test_they_come_back_to_code_inside_of_a_running_loop(factory: LoopFactory) -> None:
    """Scenario 9."""

    async def work() -> str:
        seen = colour.get()
        colour.set("green")
        return seen

    async def outer() -> tuple[str, str]:
        colour.set("red")
        return run_sync(work()), colour.get()

    assert run(outer(), factory) == ("red", "green")


def test_they_come_back_with_an_error_too(factory: LoopFactory) -> None:
    """Scenario 10."""

    async def work() -> None:
        colour.set("green")
        raise LookupError

    async def outer() -> str:
        with pytest.raises(LookupError):
            run_sync(work())
        return colour.get()

    assert run(outer(), factory) == "green"


def test_values_that_refuse_to_be_compared_travel_as_well() -> None:
    class Array:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value is ambiguous")

    thing: ContextVar[Any] = ContextVar("thing")
    new = Array()

    async def work() -> None:
        thing.set(new)

    async def outer() -> None:
        thing.set(Array())
        run_sync(work())
        assert thing.get() is new

    run(outer())
