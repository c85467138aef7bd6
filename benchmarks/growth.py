"""How costs grow with the number of waiters, of loops, and of databases.

Every time is that of one unit: one acquire, one loop, one database. Where the whole grows in
proportion, the unit's price stays what it was.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from asgi_dbconn import Database, Registry
from benchmarks.harness import Comparison, Contender, Effort, compare
from benchmarks.spreading import spread
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

__all__ = ["FOUR", "ONE", "distant", "loops", "registries", "waiters"]

ONE: Final = "one database"
FOUR: Final = "four databases"

_WAITERS: Final = (1, 10, 100, 1000)
_LOOPS: Final = (1, 4, 16)
_REGISTERED: Final = (1, 8, 64)
# Turns for each task of a queue: it has its length only between its beginning and its end.
_TURNS: Final = 4


async def waiters(url: str, effort: Effort) -> Comparison:
    """Tasks that pass one connection on to each other, and do nothing with it."""
    async with Database(url, pool_size=1) as database:
        contenders = []
        for count in _WAITERS:
            await _check_queue(database, count)
            queue = partial(_queue, database, count)
            contenders.append(Contender(f"{count:,} waiting", queue, at_least=_TURNS * (count + 1)))
        title = "One acquire and release, behind a queue of"
        return await compare(title, contenders, effort, baseline=contenders[0].name)


async def loops(url: str, effort: Effort) -> Comparison:
    """Loops in threads, each with a pool of its own: made, connected, asked once, and ended."""
    with ThreadPoolExecutor(max(_LOOPS)) as threads:
        async with Database(url) as database:
            contenders = [
                Contender(
                    f"{count} at a time",
                    partial(_live, database, threads, count),
                    at_least=count,
                )
                for count in _LOOPS
            ]
            title = "The life of one loop in a thread: connect, one statement, end"
            return await compare(title, contenders, effort, baseline=contenders[0].name)


async def registries(folder: Path, effort: Effort) -> Comparison:
    """Registries of SQLite files, connected and disconnected."""
    contenders = []
    for count in _REGISTERED:
        models = _files(folder / f"{count}-files", count)
        contenders.append(Contender(f"{count} at once", partial(_open, models), units=count))
    title = "Connecting and disconnecting one SQLite database"
    return await compare(title, contenders, effort, baseline=contenders[0].name)


def distant(server: PostgresServer, round_trip: float, rounds: int) -> Comparison:
    """Connecting where every answer takes ``round_trip`` seconds; disconnecting is not timed."""
    with Proxy(server.host, server.port) as proxy, ExitStack() as stack:
        first, *others = (
            proxy.url_for(stack.enter_context(server.database("benchmark"))) for _ in range(4)
        )
        proxy.delay(round_trip / 2)
        one = Registry(first)
        four = Registry(first, extra={f"other {number}": url for number, url in enumerate(others)})
        contenders = [
            Contender(name, partial(_connect, models), undo=models.disconnect)
            for name, models in ((ONE, one), (FOUR, four))
        ]
        title = f"Connecting, with {round_trip * 1000:g} ms for a round trip"
        # No time is filled with several: a second connect would only count, and cost nothing.
        return asyncio.run(compare(title, contenders, Effort(rounds, 0.0), baseline=ONE))


async def _queue(database: Database, waiting: int, operations: int) -> None:
    async def hold_for_one_turn(_: int) -> None:
        async with database.engine.connect():
            await asyncio.sleep(0)

    await spread(range(operations), hold_for_one_turn, waiting + 1)


async def _check_queue(database: Database, waiting: int) -> None:
    longest = 0

    async def look(_: int) -> None:
        nonlocal longest
        async with database.engine.connect():
            await asyncio.sleep(0)
            longest = max(longest, database.stats().waiting)

    await spread(range(_TURNS * (waiting + 1)), look, waiting + 1)
    if longest != waiting:
        raise RuntimeError(f"{waiting} should have been waiting, and {longest} were")


async def _live(
    database: Database, threads: ThreadPoolExecutor, count: int, operations: int
) -> None:
    lives = iter(range(operations))

    def work() -> None:
        for _ in lives:
            asyncio.run(database.ping())

    here = asyncio.get_running_loop()
    await asyncio.gather(*(here.run_in_executor(threads, work) for _ in range(count)))


def _files(folder: Path, count: int) -> Registry:
    folder.mkdir()
    first, *others = (f"sqlite:///{folder / f'{number}.sqlite'}" for number in range(count))
    return Registry(first, extra={f"other {number}": url for number, url in enumerate(others)})


async def _open(models: Registry, operations: int) -> None:
    for _ in range(operations):
        async with models:
            pass


async def _connect(models: Registry, _: int) -> None:
    await models.connect()
