"""How many functions of ours a call runs through: counted, so that it does not creep up."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.util import greenlet_spawn

from asgi_dbconn import loops, run_sync
from asgi_dbconn.loops.default_loop import Environment
from tests.loops.situations import LoopFactory, loop_in_thread, open_loop, run

OURS = str(Path(loops.__file__).parent)
Calls = Counter[str]


async def nothing() -> None:
    """What remains is the bridge."""


def counting(calls: Calls) -> Callable[[FrameType, str, Any], None]:
    def profile(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        # Another test may have imported asgiref, or left a closed loop behind that was a home.
        name, elsewhere = frame.f_code.co_name, ("asgiref_compat", "may_use_loop")
        ours = str(path.parent) == OURS and path.stem not in elsewhere and name not in elsewhere
        if event == "call" and ours:
            calls[f"{path.stem}.{frame.f_code.co_name}"] += 1

    return profile


@contextmanager
def counted(calls: Calls) -> Iterator[None]:
    """Count in this thread; the suite may be profiled or measured itself.

    What the garbage collector would call meanwhile belongs to the tests before.
    """
    before = sys.getprofile()
    gc.disable()
    sys.setprofile(counting(calls))
    try:
        yield
    finally:
        sys.setprofile(before)
        gc.enable()


def cost(call: Callable[[], object]) -> Calls:
    """Of the third call: the first two make what is made once."""
    call()
    call()
    calls: Calls = Counter()
    with counted(calls):
        call()
    return calls


def assert_at_most(limit: int, calls: Calls) -> None:
    assert calls["run_sync.run_sync"] == 1
    assert calls.total() <= limit, "\n".join(f"{name} {count}" for name, count in calls.items())


def test_on_an_idle_loop(factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        assert_at_most(23, cost(lambda: run_sync(nothing(), loop=loop)))


def test_in_an_environment(factory: LoopFactory) -> None:
    with open_loop(factory) as loop, Environment.choose(loop):
        assert_at_most(26, cost(lambda: run_sync(nothing())))


def test_inside_a_running_loop(factory: LoopFactory) -> None:
    """In the thread that waits, and in that of the subloop."""
    there: Calls = Counter()

    async def begin_counting() -> None:
        sys.setprofile(counting(there))

    async def stop_counting() -> None:
        sys.setprofile(None)

    async def outer() -> Calls:
        here = cost(lambda: run_sync(nothing()))
        run_sync(begin_counting())
        there.clear()
        run_sync(nothing())
        run_sync(stop_counting())
        return here

    assert_at_most(43, run(outer(), factory))
    # One and a half: what ends the counting begins under it.
    assert 0 < there.total() <= 25, sorted(there.elements())


def test_from_a_thread_to_the_loop_of_another(factory: LoopFactory) -> None:
    with loop_in_thread(factory) as loop:
        assert_at_most(33, cost(lambda: run_sync(nothing(), loop=loop)))


def test_inside_of_models_sync(factory: LoopFactory) -> None:
    async def outer() -> Calls:
        return await greenlet_spawn(cost, lambda: run_sync(nothing()))

    assert_at_most(2, run(outer(), factory))


def test_without_a_loop() -> None:
    # In a context of its own: this one may remember an environment of a test before.
    assert_at_most(56, Context().run(cost, lambda: run_sync(nothing())))


def test_a_private_loop_takes_as_few_turns_as_asyncio_run() -> None:
    """Each turn asks the operating system what there is to do."""

    def turns(call: Callable[[], object]) -> int:
        seen: Counter[str] = Counter()

        def profile(frame: FrameType, event: str, _: Any) -> None:
            if event == "call":
                seen[frame.f_code.co_name] += 1

        call()
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(before)
        return seen["_run_once"]

    assert 0 < turns(lambda: run_sync(nothing())) <= turns(lambda: asyncio.run(nothing()))
