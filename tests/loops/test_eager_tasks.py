"""Tasks that take their first step while they are created, on every Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from asgi_dbconn.loops.job import create_eager_task
from tests.loops.situations import LoopFactory, open_loop

colour: ContextVar[str] = ContextVar("colour", default="none")


def outside_of_any_task(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:
    """What ``function`` returns when the loop itself calls it."""
    found: list[Any] = []

    def call() -> None:
        found.append(function())
        loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    return found[0]


def test_what_does_not_wait_is_done_at_once(factory: LoopFactory) -> None:
    async def work() -> str:
        return "done"

    def begin() -> tuple[Any, bool]:
        task = create_eager_task(work())
        return task, task.done()

    with open_loop(factory) as loop:
        task, was_done = outside_of_any_task(loop, begin)
        assert was_done
        assert task.result() == "done"


def test_what_waits_goes_on_as_a_task(factory: LoopFactory) -> None:
    seen: list[Any] = []
    may_go_on = asyncio.Event()

    async def work() -> str:
        colour.set("inside")
        seen.append(asyncio.current_task())
        async with asyncio.timeout(10):
            await may_go_on.wait()
        seen.append(asyncio.current_task())
        return colour.get()

    def begin() -> tuple[Any, Any, int]:
        task = create_eager_task(work())
        return task, asyncio.current_task(), len(seen)

    with open_loop(factory) as loop:
        task, current, steps = outside_of_any_task(loop, begin)
        assert (current, steps) == (None, 1)
        assert asyncio.all_tasks(loop) == {task}
        may_go_on.set()
        assert loop.run_until_complete(task) == "inside"
        assert seen == [task, task]
        assert colour.get() == "none"


def test_an_error_at_the_first_step_is_the_tasks(factory: LoopFactory) -> None:
    async def work() -> None:
        raise LookupError("at once")

    with open_loop(factory) as loop:
        task = outside_of_any_task(loop, lambda: create_eager_task(work()))
        with pytest.raises(LookupError, match="at once"):
            task.result()


def test_the_loop_is_as_it_was(factory: LoopFactory) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    with open_loop(factory) as loop:
        before = dict(vars(loop))
        task = outside_of_any_task(loop, lambda: create_eager_task(work()))
        assert "call_soon" not in vars(loop)
        assert vars(loop).keys() == before.keys()
        loop.run_until_complete(task)
