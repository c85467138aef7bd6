"""The fast path onto an idle loop does what the dispatch does, and is taken for no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from asgi_dbconn import run_sync
from asgi_dbconn.loops.deadlocks import SyncCall
from asgi_dbconn.loops.idle_loops import ownership_of
from asgi_dbconn.loops.job import Job
from asgi_dbconn.loops.loop_inspection import LoopState, inspect_loop
from asgi_dbconn.loops.managed_loop import ManagedLoop
from asgi_dbconn.loops.run_sync import try_idle_loop
from tests.loops.situations import LoopFactory, forever, in_threads, loop_in_thread, open_loop

colour: ContextVar[str] = ContextVar("colour", default="none")


async def here() -> asyncio.AbstractEventLoop:
    colour.set("here")
    return asyncio.get_running_loop()


async def waits() -> tuple[Any, Any]:
    await asyncio.sleep(0.001)
    return asyncio.get_running_loop(), threading.current_thread()


async def starts_another() -> Any:
    await asyncio.create_task(here())
    return colour.get()


async def calls_again() -> Any:
    return run_sync(waits()) == run_sync(waits())


async def fails() -> None:
    colour.set("failed")
    raise LookupError("as it should")


async def exits() -> None:
    raise SystemExit(3)


async def is_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await forever()


async def stops_its_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.001)
    asyncio.get_running_loop().stop()
    await forever()


class Custom:
    """Awaitable, and neither a coroutine nor a future."""

    def __await__(self) -> Any:
        return waits().__await__()


WORKS: list[Callable[[], Any]] = [
    here,
    waits,
    starts_another,
    calls_again,
    fails,
    exits,
    is_cancelled,
    stops_its_loop,
    Custom,
]
LONG = 30.0
"""Who has a timeout does not go straight."""


def outcome(work: Callable[[], Any], timeout: float | None, loop: Any) -> tuple[Any, str, bool]:
    colour.set("before")
    try:
        found = run_sync(work(), timeout, loop=loop)
    except BaseException as error:
        found = (type(error), str(error))
    return found, colour.get(), loop.is_running()


@pytest.mark.parametrize("work", WORKS)
def test_both_ways_lead_to_the_same(work: Callable[[], Any], factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        straight, long = outcome(work, None, loop), outcome(work, LONG, loop)
        assert straight == long
        assert ownership_of(loop).try_acquire()  # and leave the turn free
        ownership_of(loop).release()
        for task in asyncio.all_tasks(loop):  # what was stopped is the user's, who finishes it
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)


def takes_fast_path(loop: asyncio.AbstractEventLoop) -> bool:
    call = SyncCall(blocked_loop=None)
    job = Job(here(), call, may_move=True)
    try:
        return try_idle_loop(job, loop, call)
    finally:
        call.close()
        job.refuse(asyncio.CancelledError())


def is_idle(loop: asyncio.AbstractEventLoop) -> bool:
    return inspect_loop(loop, None) is LoopState.IDLE


def test_an_idle_loop(factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        assert takes_fast_path(loop) is is_idle(loop) is True
    assert takes_fast_path(loop) is is_idle(loop) is False  # it is closed now


def test_a_loop_that_runs_elsewhere(factory: LoopFactory) -> None:
    with loop_in_thread(factory) as loop:
        assert takes_fast_path(loop) is is_idle(loop) is False


def test_a_loop_of_ours() -> None:
    own = ManagedLoop()
    assert takes_fast_path(own.loop) is is_idle(own.loop) is True
    assert in_threads(1, lambda _: (takes_fast_path(own.loop), is_idle(own.loop))) == [
        (False, False)  # the other thread gives it a thread of its own instead
    ]
    own.start("for a test")
    assert takes_fast_path(own.loop) is is_idle(own.loop) is False
    own.close()


def test_a_turn_that_is_taken_is_waited_for_elsewhere(factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        assert ownership_of(loop).try_acquire()
        assert not takes_fast_path(loop)
        ownership_of(loop).release()
        assert takes_fast_path(loop)
