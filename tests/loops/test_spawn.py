"""Work that awaits runs in greenlets that are used again, and keep nothing of it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial

import pytest
from greenlet import getcurrent
from sqlalchemy.util import await_only

from asgi_dbconn.loops.greenlets import MOST_IDLE, spawn

current: ContextVar[object] = ContextVar("current")


class Thing:
    """What must be gone when nobody needs it any more."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def identity(thing: Thing) -> Thing:
    return thing


def waits_and_tells() -> object:
    await_only(asyncio.sleep(0))
    return getcurrent()


async def test_work_may_await_and_its_result_comes_back() -> None:
    assert await spawn(lambda: await_only(asyncio.sleep(0, 3))) == 3


async def test_one_greenlet_does_one_work_after_another() -> None:
    assert await spawn(waits_and_tells) is await spawn(waits_and_tells)


async def test_each_of_those_at_the_same_time_has_its_own_and_few_are_kept() -> None:
    greenlets = await asyncio.gather(*(spawn(waits_and_tells) for _ in range(MOST_IDLE + 10)))

    assert len(set(greenlets)) == MOST_IDLE + 10
    alive = [weakref.ref(greenlet) for greenlet in greenlets]
    del greenlets
    await asyncio.sleep(0)  # the loop forgets what it did last
    gc.collect()
    assert sum(reference() is not None for reference in alive) <= MOST_IDLE


async def test_work_inside_of_what_work_awaits_has_a_greenlet_of_its_own() -> None:
    def outer() -> tuple[object, object]:
        return getcurrent(), await_only(spawn(waits_and_tells))

    first, second = await spawn(outer)

    assert first is not second


async def test_neither_result_nor_function_is_kept(without_collector: None) -> None:
    thing = Thing()
    seen = weakref.ref(thing)

    assert await spawn(partial(identity, thing)) is thing
    del thing

    assert seen() is None


async def test_an_error_is_raised_as_it_was_and_not_kept(without_collector: None) -> None:
    thing = Thing()
    seen = weakref.ref(thing)

    def fails(thing: Thing) -> None:
        await_only(asyncio.sleep(0))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        await spawn(partial(fails, thing))
    assert caught.traceback[-1].name == "fails"
    del caught, thing

    assert seen() is None


async def test_context_variables_are_those_of_the_task_and_not_kept() -> None:
    async def task() -> weakref.ref[Thing]:
        def work() -> None:
            await_only(asyncio.sleep(0))
            current.set(Thing())

        await spawn(work)
        thing = current.get()
        assert isinstance(thing, Thing)
        return weakref.ref(thing)

    seen = await asyncio.create_task(task())
    await asyncio.sleep(0)  # the loop forgets what it did last
    gc.collect()

    assert seen() is None
    assert await spawn(lambda: current.get(None)) is None


async def test_a_cancellation_arrives_where_the_work_waits_and_may_be_cleaned_up_after() -> None:
    waiting = asyncio.Event()
    seen: list[object] = []

    def work() -> None:
        waiting.set()
        try:
            await_only(asyncio.Event().wait())
        except asyncio.CancelledError:
            seen.append(await_only(asyncio.sleep(0, "cleaned up")))
            raise

    task = asyncio.create_task(spawn(work))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert seen == ["cleaned up"]
    assert await spawn(lambda: await_only(asyncio.sleep(0, 3))) == 3


async def test_a_coroutine_that_is_closed_leaves_a_greenlet_that_can_be_used() -> None:
    seen: list[object] = []

    def work() -> None:
        seen.append(getcurrent())
        try:
            await_only(asyncio.sleep(0))
        finally:
            seen.append("ended")

    coroutine = spawn(work)
    coroutine.send(None)
    coroutine.close()

    assert seen[1] == "ended"
    assert await spawn(waits_and_tells) is seen[0]


def test_threads_have_their_own_which_go_with_them() -> None:
    seen: list[weakref.ref[object]] = []

    def thread() -> None:
        seen.append(weakref.ref(asyncio.run(spawn(waits_and_tells))))
        assert seen[-1]() is not None  # it waits for more

    for _ in range(3):
        running = threading.Thread(target=thread, name="test-thread")
        running.start()
        running.join()
    gc.collect()

    assert [reference() for reference in seen] == [None, None, None]


def test_a_program_ends_in_silence_while_greenlets_wait() -> None:
    program = """
import asyncio, threading
from asgi_dbconn.loops.greenlets import spawn
from sqlalchemy.util import await_only

async def main():
    await asyncio.gather(*(spawn(lambda: await_only(asyncio.sleep(0.001))) for _ in range(9)))

asyncio.run(main())
threading.Thread(target=asyncio.run, args=(main(),)).start()
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
