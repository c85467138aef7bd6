"""What would wait for itself is told so, or goes another way; nothing hangs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asgi_dbconn import DeadlockError, run_sync
from asgi_dbconn.loops import deadlines, deadlocks
from asgi_dbconn.loops.deadlocks import is_blocked
from tests.loops.situations import LoopFactory, in_threads, loop_in_thread, open_loop, run
from tests.support.waiting import wait_until_async


async def here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_a_future_of_the_blocked_loop_is_refused_and_stays_usable(factory: LoopFactory) -> None:
    """Scenario 25."""

    async def answer() -> int:
        return 42

    async def outer() -> None:
        task = asyncio.create_task(answer())
        with pytest.raises(DeadlockError, match="await"):
            run_sync(task)
        assert await task == 42
        assert run_sync(task) == 42
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_exception(LookupError("told"))
        with pytest.raises(LookupError, match="told"):
            run_sync(done)

    run(outer(), factory)


def test_so_is_one_of_a_loop_that_is_blocked_above(factory: LoopFactory) -> None:
    """Scenario 25."""

    async def outer() -> None:
        future = asyncio.get_running_loop().create_future()

        async def inner() -> None:
            with pytest.raises(DeadlockError):
                await asyncio.to_thread(run_sync, future)

        run_sync(inner())
        future.cancel()

    run(outer(), factory)


def test_a_future_of_another_loop_is_awaited_there(factory: LoopFactory) -> None:
    async def later() -> int:
        await asyncio.sleep(0.01)
        return 7

    with loop_in_thread(factory) as loop:
        made: list[asyncio.Task[int]] = []
        loop.call_soon_threadsafe(lambda: made.append(loop.create_task(later())))
        while not made:
            run_sync(asyncio.sleep(0), loop=loop)
        assert run_sync(made[0]) == 7


def test_a_worker_that_names_the_blocked_loop_gets_its_subloop(factory: LoopFactory) -> None:
    """Scenario 26."""

    async def outer() -> None:
        blocked = asyncio.get_running_loop()

        async def inner() -> Any:
            found = await asyncio.to_thread(lambda: run_sync(here(), loop=blocked))
            return found, asyncio.get_running_loop()

        found, subloop = run_sync(inner())
        assert found is subloop

    run(outer(), factory)


def test_so_does_one_that_knows_nothing_of_the_call(factory: LoopFactory) -> None:
    """Without a context: an executor does not pass it on, so only the blocked loop is known."""

    async def outer() -> None:
        blocked = asyncio.get_running_loop()

        async def inner() -> Any:
            return await asyncio.get_running_loop().run_in_executor(
                None, lambda: run_sync(here(), loop=blocked)
            )

        assert run_sync(inner()) is not blocked

    run(outer(), factory)


def test_a_worker_below_a_driven_loop_is_a_guest_there(factory: LoopFactory) -> None:
    """Scenario 47."""

    async def inner() -> Any:
        loop = asyncio.get_running_loop()
        return loop, await asyncio.to_thread(lambda: run_sync(here(), loop=loop))

    with open_loop(factory) as loop:
        assert run_sync(inner(), loop=loop) == (loop, loop)


def test_so_is_one_that_knows_nothing_of_the_driver(factory: LoopFactory) -> None:
    """Scenario 47, with an executor that passes no context on."""

    async def inner() -> Any:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as executor:
            return await loop.run_in_executor(executor, lambda: run_sync(here(), loop=loop))

    with open_loop(factory) as loop:
        assert run_sync(inner(), loop=loop) is loop


def test_the_driver_stays_for_its_guest(factory: LoopFactory) -> None:
    """A guest goes on in the thread that it began in, when the driver's own job is done."""
    begun, outcome = asyncio.Event(), []
    hosts: list[asyncio.Task[Any]] = []

    async def guest() -> list[threading.Thread]:
        first = threading.current_thread()
        begun.set()
        await asyncio.wait(hosts)
        for _ in range(5):  # turns in which the driver could leave
            await asyncio.sleep(0)
        return [first, threading.current_thread()]

    async def host() -> threading.Thread:
        hosts.extend(asyncio.all_tasks())
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=lambda: outcome.extend(run_sync(guest(), loop=loop)))
        thread.start()
        await begun.wait()
        return thread

    with open_loop(factory) as loop:
        run_sync(host(), loop=loop).join(5)
        assert outcome == [threading.current_thread()] * 2


def test_a_guest_takes_over_when_its_driver_cannot_stay(
    factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "CANCEL_GRACE", 0.05)
    begun, outcome = asyncio.Event(), []

    async def guest() -> threading.Thread:
        driver = threading.current_thread()
        begun.set()
        await wait_until_async(lambda: threading.current_thread() is not driver, 10)
        return threading.current_thread()

    async def host() -> threading.Thread:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=lambda: outcome.append(run_sync(guest(), loop=loop)))
        thread.start()
        await begun.wait()
        return thread

    with open_loop(factory) as loop:
        thread = run_sync(host(), loop=loop)
        thread.join(10)
        assert outcome == [thread]


def test_loops_that_wait_for_each_other_do_not_hang(factory: LoopFactory) -> None:
    """Each of two threads blocks its loop and hands its work to the other's."""
    together = threading.Barrier(2)
    loops: dict[int, Any] = {}

    async def outer(number: int) -> Any:
        loops[number] = asyncio.get_running_loop()
        together.wait(5)
        found = run_sync(here(), loop=loops[1 - number])
        await asyncio.to_thread(together.wait, 5)  # so that no loop ends before it was asked
        return found

    for _ in range(20):
        found = in_threads(2, lambda number: run(outer(number), factory))
        assert all(isinstance(row, asyncio.AbstractEventLoop) for row in found)


def test_a_future_of_a_loop_that_waits_for_ours_is_refused(factory: LoopFactory) -> None:
    """Another task of our loop asks for it, which knows nothing of the call that waits."""
    waits = threading.Event()

    with loop_in_thread(factory) as ours:

        async def work() -> None:
            waits.set()
            await future_was_asked_for.wait()

        async def ask(future: Any) -> None:
            with pytest.raises(DeadlockError):
                run_sync(future)
            future_was_asked_for.set()

        async def theirs() -> None:
            future = asyncio.get_running_loop().create_future()
            asking = threading.Thread(
                target=lambda: waits.wait(5) and run_sync(ask(future), loop=ours)
            )
            asking.start()
            run_sync(work(), 10, loop=ours)
            asking.join(5)
            future.cancel()

        future_was_asked_for = asyncio.Event()
        run(theirs(), factory)


def test_a_ring_of_three_does_not_hang_either(factory: LoopFactory) -> None:
    together = threading.Barrier(3)
    loops: dict[int, Any] = {}

    async def outer(number: int) -> Any:
        loops[number] = asyncio.get_running_loop()
        together.wait(5)
        found = run_sync(here(), loop=loops[(number + 1) % 3])
        await asyncio.to_thread(together.wait, 5)  # so that no loop ends before it was asked
        return found

    found = in_threads(3, lambda number: run(outer(number), factory))
    assert all(isinstance(row, asyncio.AbstractEventLoop) for row in found)


def test_who_waits_can_ask_whether_a_loop_is_blocked(factory: LoopFactory) -> None:
    async def outer() -> None:
        mine = asyncio.get_running_loop()

        async def inner() -> tuple[bool, bool]:
            return is_blocked(mine), is_blocked(asyncio.get_running_loop())

        assert run_sync(inner()) == (True, False)
        assert not is_blocked(mine)

    run(outer(), factory)


def test_a_background_task_is_no_longer_below_a_call_that_returned() -> None:
    async def outer() -> None:
        mine = asyncio.get_running_loop()
        answers: list[Any] = []
        may_ask = threading.Event()

        async def ask() -> None:
            await asyncio.to_thread(may_ask.wait, 5)
            answers.append(is_blocked(mine))
            answers.append(await asyncio.to_thread(lambda: run_sync(here(), loop=mine)))

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(ask())

        task = run_sync(start())
        may_ask.set()
        await asyncio.to_thread(run_sync, task)
        assert answers == [False, mine]

    run(outer())


def test_an_objection_is_a_deadlock_error_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadlocks, "_vetoes", [])
    asked: list[Any] = []

    def objection(loop: asyncio.AbstractEventLoop, work: Any) -> str | None:
        asked.append((loop, work))
        return "the transaction of database 'default'"

    deadlocks.add_blocking_veto(lambda *_: None)
    deadlocks.add_blocking_veto(objection)

    async def outer() -> None:
        work = here()
        with pytest.raises(DeadlockError, match=r"transaction of database 'default'.*models\.sync"):
            run_sync(work)
        assert asked == [(asyncio.get_running_loop(), work)]

    run(outer())
    assert run_sync(here()).is_closed()  # where nothing is blocked, nobody is asked
    assert len(asked) == 1
