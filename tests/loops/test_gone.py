"""Loops that are closed, or stop, before or while they do somebody's work."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_dbconn import LoopGoneError, run_sync
from asgi_dbconn.loops import deadlines
from tests.loops.situations import LoopFactory, loop_in_thread, open_loop, run
from tests.support.waiting import wait_until_async


async def nothing() -> None: ...


def waiting_thread(work: Callable[[], Awaitable[Any]], loop: Any) -> tuple[threading.Thread, Any]:
    """A thread that waits for ``work`` on ``loop``, and where its outcome will be."""
    outcome: list[Any] = []

    def wait() -> None:
        try:
            outcome.append(run_sync(work(), loop=loop))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, outcome


def expect_pending_tasks(loop: Any) -> None:
    """What asyncio has to say of tasks that a closed loop left pending is true, and expected."""
    pending: Any = asyncio.all_tasks(loop)
    while pending:
        pending.pop()._log_destroy_pending = False


def test_a_closed_loop_is_refused_before_anything_starts(factory: LoopFactory) -> None:
    """Scenario 22. A coroutine that was never awaited would fail the test."""
    loop = factory()
    loop.close()

    with pytest.raises(LoopGoneError, match="closed"):
        run_sync(nothing(), loop=loop)


@pytest.fixture
def no_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a loop says by its end counts; the waiting thread does not look by itself."""
    monkeypatch.setattr(deadlines, "FIRST_POLL", 60.0)


@pytest.mark.usefixtures("no_looking")
def test_a_thread_that_waits_when_the_loop_ends_is_told(factory: LoopFactory) -> None:
    """Scenario 21."""
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async def main() -> Any:
        waiting = waiting_thread(forever, asyncio.get_running_loop())
        await begun.wait()
        return waiting

    thread, outcome = run(main(), factory)
    thread.join(5)

    assert isinstance(outcome[0], LoopGoneError)


@pytest.mark.usefixtures("no_looking")
def test_so_is_one_whose_loop_is_closed_without_a_word(factory: LoopFactory) -> None:
    """Scenario 21. Nobody cancels the task; it just never goes on."""
    begun = threading.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    loop = factory()

    def careless() -> None:
        loop.run_forever()
        expect_pending_tasks(loop)
        loop.close()

    running = threading.Thread(target=careless)
    running.start()
    thread, outcome = waiting_thread(forever, loop)
    assert begun.wait(5)
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    thread.join(5)

    was_told = isinstance(outcome.pop(), LoopGoneError)
    gc.collect()  # the task and what it waits for refer to each other
    assert was_told


@pytest.mark.usefixtures("no_looking")
def test_so_is_one_whose_work_never_began(factory: LoopFactory) -> None:
    """The loop is busy, and then closed without looking at its queue."""
    is_busy, may_go_on = threading.Event(), threading.Event()
    loop = factory()

    def block_and_stop() -> None:
        is_busy.set()
        may_go_on.wait(10)
        loop.stop()

    def careless() -> None:
        loop.call_soon(block_and_stop)
        loop.run_forever()
        expect_pending_tasks(loop)
        loop.close()

    running = threading.Thread(target=careless)
    running.start()
    assert is_busy.wait(5)
    thread, outcome = waiting_thread(nothing, loop)
    thread.join(0.1)
    may_go_on.set()
    running.join()
    thread.join(5)

    # Whether the loop still looked at its queue is its own affair; nobody hangs either way.
    assert outcome[0] is None or isinstance(outcome[0], LoopGoneError)


def test_cancelling_only_the_work_is_no_end_of_the_loop(factory: LoopFactory) -> None:
    async def cancel_myself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def outer() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.to_thread(
                lambda loop: run_sync(cancel_myself(), loop=loop), asyncio.get_running_loop()
            )

    run(outer(), factory)


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize("ends", [True, False])
def test_work_cancelled_before_its_first_step_is_not_waited_for(
    factory: LoopFactory, ends: bool
) -> None:
    """Its task never runs a line. That the loop ends is seen by all tasks being cancelled."""

    async def serve() -> None:
        await asyncio.get_running_loop().create_future()

    with loop_in_thread(factory) as loop:
        server: list[asyncio.Task[None]] = []

        def cancel_what_comes() -> None:
            coming = asyncio.all_tasks(loop) - set(server)
            if not coming:
                loop.call_soon(cancel_what_comes)  # in front of the first step of what comes next
            for task in asyncio.all_tasks(loop) if ends and coming else coming:
                task.cancel()

        def begin() -> None:
            server.append(loop.create_task(serve()))
            loop.call_soon(cancel_what_comes)

        loop.call_soon_threadsafe(begin)
        thread, outcome = waiting_thread(nothing, loop)
        thread.join(5)
        if not ends:
            loop.call_soon_threadsafe(server[0].cancel)
            run_sync(asyncio.wait({server[0]}), loop=loop)

    assert isinstance(outcome[0], LoopGoneError if ends else asyncio.CancelledError)


def test_a_loop_that_stops_without_closing_is_taken_over(factory: LoopFactory) -> None:
    """Scenario 45."""
    begun = threading.Event()

    async def work() -> threading.Thread:
        begun.set()
        await wait_until_async(lambda: threading.current_thread() is not running, 10)
        return threading.current_thread()

    loop = factory()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    thread, outcome = waiting_thread(work, loop)
    assert begun.wait(5)
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    thread.join(10)

    assert outcome == [thread]
    assert not loop.is_running()
    loop.close()


def test_work_that_stops_its_own_idle_loop_cannot_finish(factory: LoopFactory) -> None:
    unwound: list[int] = []

    async def stop() -> None:
        try:
            for _ in range(5):
                asyncio.get_running_loop().stop()
                await asyncio.sleep(0.01)
        finally:
            unwound.append(1)

    with open_loop(factory) as loop:
        with pytest.raises(LoopGoneError, match="stopped"):
            run_sync(stop(), loop=loop)
        assert unwound == [1]
        assert not asyncio.all_tasks(loop)


def test_a_loop_in_another_thread_can_be_used_until_it_closes(factory: LoopFactory) -> None:
    with loop_in_thread(factory) as loop:
        assert run_sync(nothing(), loop=loop) is None
    with pytest.raises(LoopGoneError):
        run_sync(nothing(), loop=loop)
