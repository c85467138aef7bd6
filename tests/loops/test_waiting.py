"""What waiting costs, and that it holds under stress."""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_dbconn import run_sync
from asgi_dbconn.loops.default_loop import Environment
from tests.loops.situations import LoopFactory, Place, in_threads, loop_in_thread, open_loop, run


def test_a_waiting_thread_sleeps(place: Place) -> None:
    """Scenario 58."""
    switches: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0.5)  # the time in which the thread must not wake up

    def waiting() -> None:
        def usage() -> int:
            used: int = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            return used

        place.run(lambda: asyncio.sleep(0))
        before = usage()
        place.run(work)
        switches.append(usage() - before)

    thread = threading.Thread(target=waiting)
    thread.start()
    thread.join()
    assert switches[0] < 20  # with the making and closing of the loops


@pytest.fixture
def busy_switching() -> Iterator[None]:
    """Threads change places as often as they can, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


async def double(number: int) -> int:
    if number % 3:
        await asyncio.sleep(0)
    return 2 * number


COUNT = 300


@pytest.mark.usefixtures("busy_switching")
@pytest.mark.parametrize("where", ["elsewhere", "idle", "environment", "below", "nowhere"])
def test_nothing_is_lost_under_stress(factory: LoopFactory, where: str) -> None:
    """Scenario 56."""
    expected = [[2 * number for number in range(COUNT)]] * 6

    def calls(loop: Any = None) -> list[int]:
        return [run_sync(double(number), 30, loop=loop) for number in range(COUNT)]

    async def below(_: int) -> list[int]:
        return calls()

    if where == "elsewhere":
        with loop_in_thread(factory) as loop:
            assert in_threads(6, lambda _: calls(loop)) == expected
    elif where == "idle":
        with open_loop(factory) as loop:
            assert in_threads(6, lambda _: calls(loop)) == expected
    elif where == "environment":
        with Environment.choose():
            assert in_threads(6, lambda _: calls()) == expected
    elif where == "below":
        assert in_threads(6, lambda number: run(below(number), factory)) == expected
    else:
        assert in_threads(6, lambda _: calls()) == expected
