"""Time that is over is over: the work is cancelled, unwinds, and the caller is told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asgi_dbconn import RunSyncTimeout, run_sync
from asgi_dbconn.loops import deadlines
from tests.loops.situations import LoopFactory, Place, forever, loop_in_thread, open_loop, run
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until


def test_work_is_cancelled_and_unwinds_before_the_caller_hears_of_it(place: Place) -> None:
    """Scenario 11."""
    unwound: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.02)  # which takes the loop more than one turn
            unwound.append("done")

    with pytest.raises(RunSyncTimeout, match="work"):
        place.run(work, 0.05)
    assert unwound == ["done"]


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_no_time_at_all_has_expired(place: Place, timeout: float) -> None:
    """Scenario 12."""
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)

    with pytest.raises(RunSyncTimeout):
        place.run(work, timeout)
    assert begun == []


def test_enough_time_changes_nothing(place: Place) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "in time"

    assert place.run(work, 30) == "in time"
    assert place.run(work, float("inf")) == "in time"


def test_the_works_own_timeout_is_not_ours(place: Place) -> None:
    """Scenario 13."""

    async def work() -> None:
        async with asyncio.timeout(0.01):
            await forever()

    with pytest.raises(TimeoutError) as caught:
        place.run(work, 30)
    assert not isinstance(caught.value, RunSyncTimeout)


def test_work_that_finishes_in_spite_of_it_gives_its_result(place: Place) -> None:
    async def work() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "just finished"
        return "not cancelled"

    assert place.run(work, 0.2) == "just finished"


def test_an_error_while_unwinding_is_told(place: Place) -> None:
    async def work() -> None:
        try:
            await forever()
        finally:
            raise LookupError("while unwinding")

    with pytest.raises(LookupError, match="while unwinding"):
        place.run(work, 0.2)


def test_work_that_blocks_its_thread_is_given_up(
    factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 14."""
    monkeypatch.setattr(deadlines, "CANCEL_GRACE", 0.1)
    may_go_on = threading.Event()
    has_ended: list[int] = []

    async def work() -> None:
        may_go_on.wait(10)
        has_ended.append(1)

    async def outer() -> None:
        with pytest.raises(RunSyncTimeout, match="ignores its cancellation"):
            run_sync(work(), 0.05)
        assert not has_ended
        may_go_on.set()

    run(outer(), factory)


def test_work_that_will_not_be_cancelled_is_given_up_in_our_own_thread_too(
    factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "CANCEL_GRACE", 0.1)

    async def work() -> str:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue
        return "at last"

    may_end = asyncio.Event()
    with open_loop(factory) as loop:
        with pytest.raises(RunSyncTimeout, match="ignores its cancellation"):
            run_sync(work(), 0.05, loop=loop)
        may_end.set()
        (task,) = asyncio.all_tasks(loop)  # it is the user's loop, and still has it
        loop.run_until_complete(task)


def test_what_fails_after_it_was_given_up_is_reported(
    factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "CANCEL_GRACE", 0.05)
    may_go_on = threading.Event()
    reported: list[str] = []

    async def work() -> None:
        may_go_on.wait(10)
        raise LookupError("too late")

    with loop_in_thread(factory) as loop:
        loop.call_soon_threadsafe(
            loop.set_exception_handler, lambda _, told: reported.append(str(told["exception"]))
        )
        with pytest.raises(RunSyncTimeout):
            run_sync(work(), 0.05, loop=loop)
        may_go_on.set()
        wait_until(lambda: reported == ["too late"], 5)


def test_work_that_never_began_needs_no_grace() -> None:
    """Its loop is busy with something else."""
    may_go_on = threading.Event()

    async def work() -> None: ...

    with loop_in_thread() as loop:
        loop.call_soon_threadsafe(may_go_on.wait, 10)
        with taking(most=deadlines.CANCEL_GRACE / 2), pytest.raises(RunSyncTimeout):
            run_sync(work(), 0.1, loop=loop)
        may_go_on.set()
