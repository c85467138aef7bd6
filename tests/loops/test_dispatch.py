"""The step that ``run_sync`` takes in each state of a loop, and what it refuses before any step."""

from __future__ import annotations

import asyncio

import pytest

from asgi_dbconn import DeadlockError, run_sync
from asgi_dbconn.errors import LoopGoneError, NestingError
from asgi_dbconn.loops.deadlines import MAX_DEPTH
from asgi_dbconn.loops.dispatch import STEPS
from asgi_dbconn.loops.loop_inspection import LoopState


def test_each_state_of_a_loop_has_its_step() -> None:
    assert {state.name: step.__name__ for state, step in STEPS.items()} == {
        "CLOSED": "_abandon_job",
        "BLOCKED": "_use_subloop",
        "RUNNING": "_submit_to_running_loop",
        "MANAGED_IDLE_ELSEWHERE": "_run_or_join",
        "IDLE": "_run_or_join",
    }
    assert set(LoopState) - set(STEPS) == {LoopState.NONE}  # then a loop is made for the job


def test_the_result_of_a_done_future_is_taken_wherever_its_loop_is() -> None:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_result("done")
    loop.close()

    assert run_sync(future) == "done"
    assert run_sync(future, timeout=0) == "done"


async def test_a_future_of_the_loop_that_would_be_blocked_is_refused() -> None:
    future = asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError, match="no task could ever finish it"):
        run_sync(future)
    with pytest.raises(DeadlockError):
        run_sync(future, timeout=0)  # what could never be done is told before the time is over


def test_a_closed_loop_is_refused_before_the_time_is_over() -> None:
    loop = asyncio.new_event_loop()
    loop.close()

    async def work() -> None:
        raise AssertionError("it must not begin")

    with pytest.raises(LoopGoneError, match="is closed"):
        run_sync(work(), loop=loop)
    with pytest.raises(LoopGoneError):
        run_sync(work(), timeout=0, loop=loop)


def test_calls_inside_each_other_end_at_the_limit() -> None:
    deepest = 0

    async def recurse(depth: int) -> None:
        nonlocal deepest
        deepest = depth
        run_sync(recurse(depth + 1))

    with pytest.raises(NestingError, match=f"{MAX_DEPTH} levels deep"):
        run_sync(recurse(1))
    assert deepest == MAX_DEPTH
