"""Several event loops on one database at once, and loops that end in all their ways."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest
import uvloop

from asgi_dbconn import ConnectionLost, Database
from tests.faults.backends import backend, backends, is_sleeping, sleep_on
from tests.faults.threads import Threads
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until, wait_until_async

NewLoop = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Callable[[], Coroutine[Any, Any, int]]], int]


def by_hand(new_loop: NewLoop, main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    loop = new_loop()
    result = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    return result


WAYS: dict[str, Run] = {
    "asyncio": lambda main: asyncio.run(main()),
    "uvloop": lambda main: uvloop.run(main()),
    "anyio": anyio.run,
    "anyio on uvloop": lambda main: anyio.run(main, backend_options={"use_uvloop": True}),
    "by hand": partial(by_hand, asyncio.SelectorEventLoop),
    "by hand on uvloop": partial(by_hand, uvloop.new_event_loop),
}


@pytest.mark.postgres
def test_two_loops_in_two_threads_never_share_a_backend(postgres_url: str) -> None:
    """Scenario 35."""
    database = Database(postgres_url, pool_size=3)

    async def work() -> tuple[float, list[int], float]:
        async def some() -> list[int]:
            return [await backend(database) for _ in range(100)]

        async with database:
            started = time.perf_counter()
            found = await asyncio.gather(*(some() for _ in range(5)))
            return started, [pid for row in found for pid in row], time.perf_counter()

    one, two = Threads([lambda: asyncio.run(work())] * 2).results(20)

    assert len(one[1]) == len(two[1]) == 500
    assert not set(one[1]) & set(two[1])
    assert max(len(set(one[1])), len(set(two[1]))) <= 3
    assert max(one[0], two[0]) < min(one[2], two[2])  # else they took turns
    assert not database.is_connected


@pytest.mark.postgres
@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_loops_that_end_in_order_leave_no_backend(
    postgres: PostgresServer, postgres_url: str, run: Run
) -> None:
    """Scenarios 36 and 37."""
    database = Database(postgres_url)
    asyncio.run(database.connect())

    pids = Threads([partial(run, partial(backend, database))] * 20).results(20)

    assert len(set(pids)) == 20
    assert repr(database).endswith("[connected | references: 1 | loops: 0]>")
    wait_until(lambda: not backends(postgres, postgres_url), 1.0)
    asyncio.run(database.disconnect())


def test_eight_threads_connect_and_disconnect_as_they_like(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 42."""
    database = Database(database_url)

    async def live(seed: int) -> None:
        choice = random.Random(seed)
        held = 0
        for _ in range(200):
            if not held or (held < 2 and choice.random() < 0.3):
                await database.connect()
                held += 1
                assert database.is_connected
            else:
                await database.disconnect()
                held -= 1
        for _ in range(held):
            await database.disconnect()

    with caplog.at_level("INFO", "asgi_dbconn"):
        Threads([partial(asyncio.run, live(seed)) for seed in range(8)]).results(10)

    assert repr(database).endswith("[not connected | references: 0 | loops: 0]>")
    lives = [record.getMessage().partition(") ")[2] for record in caplog.records]
    # Opened and closed again and again while the others wanted in: else nothing was shown.
    assert lives.count("connected") == database.stats().connects > 10
    assert lives[::2] == ["connected"] * (len(lives) // 2)
    assert lives[1::2] == ["disconnected: 1 closed, 0 cancelled, 0 cut"] * (len(lives) // 2)


whether_it_stays = pytest.mark.parametrize(
    "stays", [True, False], ids=["its loop goes on", "its loop ends with it"]
)


async def work_and_stay(database: Database, seconds: float, leave: threading.Event) -> float:
    """Like ``sleep_on``, on a loop that goes on until it may leave."""
    try:
        return await sleep_on(database, seconds)
    finally:
        await wait_until_async(leave.is_set, 5)


async def disconnect_once_it_sleeps(
    database: Database, is_it: Callable[[], bool]
) -> tuple[tuple[int, int, int], float, float]:
    """How many were closed, cancelled and cut, and when the disconnect began and ended."""
    await wait_until_async(is_it, 5)
    begun = time.perf_counter()
    report = await database.disconnect()
    assert report is not None
    return (report.closed, report.cancelled, report.cut), begun, time.perf_counter()


@pytest.mark.postgres
@whether_it_stays
def test_a_disconnect_waits_for_the_query_of_another_loop(
    postgres: PostgresServer, postgres_url: str, *, stays: bool
) -> None:
    """Scenario 43, with a query that ends within the grace."""
    database = Database(postgres_url, shutdown_timeout=5)
    leave = threading.Event()
    with asyncio.Runner() as here:
        here.run(database.connect())
        there = Threads([lambda: asyncio.run(work_and_stay(database, 0.5, leave))])
        if not stays:
            leave.set()

        (closed, cancelled, cut), begun, ended = here.run(
            disconnect_once_it_sleeps(database, lambda: is_sleeping(postgres, postgres_url))
        )

        leave.set()
        (finished,) = there.results(1)
    assert begun < finished < ended < begun + 1.0
    assert repr(database).endswith("[not connected | references: 0 | loops: 0]>")
    assert (closed + cut, cancelled) == (2, 0)
    assert closed == 2 or not stays  # a loop that ends interrupts the farewell


@pytest.mark.postgres
@whether_it_stays
def test_a_disconnect_cancels_what_takes_too_long_on_another_loop(
    postgres: PostgresServer, postgres_url: str, *, stays: bool
) -> None:
    """Scenario 43, with a query that does not."""
    database = Database(postgres_url, shutdown_timeout=0.2)
    leave = threading.Event()
    with asyncio.Runner() as here:
        here.run(database.connect())
        there = Threads([lambda: asyncio.run(work_and_stay(database, 60, leave))])
        if not stays:
            leave.set()

        (closed, cancelled, cut), begun, ended = here.run(
            disconnect_once_it_sleeps(database, lambda: is_sleeping(postgres, postgres_url))
        )

        assert not is_sleeping(postgres, postgres_url)
        leave.set()
        with pytest.raises(ConnectionLost, match="canceling statement"):
            there.results(1)
    assert begun + 0.2 <= ended < begun + 0.2 + 2.5
    assert repr(database).endswith("[not connected | references: 0 | loops: 0]>")
    assert (closed, cancelled + cut) == (1, 1)
    assert cancelled == 1 or not stays


@pytest.mark.postgres
def test_loops_go_on_when_the_one_that_connected_ends(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 44."""
    database = Database(postgres_url, pool_size=1)
    stop, answered = threading.Event(), [0, 0, 0]

    async def work(number: int) -> set[int]:
        pids = set()
        while not stop.is_set():
            pids.add(await backend(database))
            answered[number] += 1
        return pids

    with asyncio.Runner() as owner:
        owner.run(database.connect())
        first = owner.run(backend(database))
        others = Threads([partial(asyncio.run, work(number)) for number in range(3)])
        wait_until(lambda: min(answered) >= 10, 10)
    try:
        before = list(answered)
        wait_until(lambda: first not in backends(postgres, postgres_url), 1.0)
        wait_until(lambda: all(n >= b + 10 for n, b in zip(answered, before, strict=True)), 10)
        assert database.is_connected
    finally:
        stop.set()

    pids = others.results(10)
    assert [len(pid) for pid in pids] == [1, 1, 1]
    assert len({first}.union(*pids)) == 4
    assert repr(database).endswith("[connected | references: 1 | loops: 0]>")
    wait_until(lambda: not backends(postgres, postgres_url), 1.0)
    asyncio.run(database.disconnect())
    assert not database.is_connected
