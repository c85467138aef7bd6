"""What a pooled connection costs: under load, by itself, and as there are more of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import growth
from benchmarks.borrowers import DEFAULT, DRIVER, ENGINE, RUN, SIZE, TUNED, Borrower, borrowers
from benchmarks.harness import Comparison, Contender, Effort, compare
from benchmarks.report import Outcome, aligned
from benchmarks.spreading import spread
from benchmarks.targets import Target, as_data, target_table
from tests.support.postgres import PostgresServer

__all__ = ["run"]

_TASKS: Final = 15
"""As many as SQLAlchemy's default pool lets in at once; nobody times out anywhere."""
_THINK: Final = 0.001
"""Seconds between two statements of a task, which holds no connection meanwhile."""
_SATURATED: Final = "saturated"
_THINKING: Final = f"with {_THINK * 1000:g} ms of think time"


@dataclass(frozen=True, slots=True)
class _Thoroughness:
    """How long to look at what."""

    load: Effort
    """Long batches: at the beginning of each, SQLAlchemy's default pool opens ten connections."""
    alone: Effort
    """Short ones: a pool that waits too long for its turn asks whether its connections live."""
    growth: Effort
    round_trip: float
    distant_rounds: int


_FULL: Final = _Thoroughness(
    load=Effort(rounds=15, batch=0.4),
    alone=Effort(rounds=60, batch=0.02),
    growth=Effort(rounds=15, batch=0.05),
    round_trip=0.1,
    distant_rounds=5,
)
_QUICK: Final = _Thoroughness(
    load=Effort(rounds=3, batch=0.1),
    alone=Effort(rounds=5, batch=0.01),
    growth=Effort(rounds=2, batch=0.01),
    round_trip=0.02,
    distant_rounds=2,
)


@dataclass(frozen=True, slots=True)
class Connects:
    """What a contender opened during a load, from the making of its pool, warm-up included."""

    load: str
    contender: str
    connects: int
    statements: int

    @property
    def expected(self) -> int | None:
        """Only SQLAlchemy's default pool is not of a fixed size."""
        return None if self.contender == DEFAULT else SIZE

    @property
    def verdict(self) -> str:
        if self.expected is None:
            return ""
        return "met" if self.connects == self.expected else "not met"


class _Load:
    """So many tasks that ask one statement after another; counts the statements."""

    def __init__(self, ask: Callable[[], Awaitable[object]], think: float) -> None:
        self._ask = ask
        self._think = think
        self.statements = 0

    async def __call__(self, operations: int) -> None:
        self.statements += operations
        await spread(range(operations), self._step, _TASKS)

    async def _step(self, _: int) -> None:
        await self._ask()
        if self._think:
            await asyncio.sleep(self._think)


def run(*, quick: bool) -> Outcome:
    """Measure on a PostgreSQL server and on SQLite files that are made for it."""
    how = _QUICK if quick else _FULL
    with PostgresServer() as server:
        (shown,) = server.fetch("SHOW server_version")
        with server.database("benchmark") as url:
            saturated, opened = asyncio.run(_loaded(url, _SATURATED, 0.0, how.load))
            thinking, also_opened = asyncio.run(_loaded(url, _THINKING, _THINK, how.load))
            alone = asyncio.run(_alone(url, how.alone))
            queues = asyncio.run(growth.waiters(url, how.growth))
            loops = asyncio.run(growth.loops(url, how.growth))
        distant = growth.distant(server, how.round_trip, how.distant_rounds)
    with TemporaryDirectory() as folder:
        registries = asyncio.run(growth.registries(Path(folder), how.growth))
    connects = [*opened, *also_opened]
    targets = _targets(saturated, thinking, alone, distant)
    return Outcome(
        [saturated, thinking, alone, distant, queues, loops, registries],
        [_connect_table(connects), target_table(targets)],
        {
            "postgresql": str(shown[0]),
            "tasks": _TASKS,
            "pool_size": SIZE,
            "connects": [asdict(opened) | {"verdict": opened.verdict} for opened in connects],
            "targets": as_data(targets),
        },
    )


async def _loaded(
    url: str, load: str, think: float, effort: Effort
) -> tuple[Comparison, list[Connects]]:
    # New pools for each load, so that what they open belongs to it.
    async with borrowers(url) as ways:
        loads = {name: _Load(way.way.ask, think) for name, way in ways.items()}
        contenders = [
            # Twice the tasks, so that the end of a batch is not all of it.
            Contender(name, load, at_least=2 * _TASKS)
            for name, load in loads.items()
        ]
        title = f"One statement, {_TASKS} tasks for {SIZE} connections, {load}"
        comparison = await compare(title, contenders, effort, baseline=DEFAULT)
        return comparison, [
            Connects(load, name, way.connects(), loads[name].statements)
            for name, way in ways.items()
        ]


async def _alone(url: str, effort: Effort) -> Comparison:
    async with borrowers(url) as ways:
        contenders = [
            Contender(name, _one_after_another(way))
            for name, way in ways.items()
            if name != DEFAULT  # uncontended, it is the tuned one
        ]
        title = "Acquire and release, one task, no statement"
        return await compare(title, contenders, effort, baseline=TUNED)


def _one_after_another(borrower: Borrower) -> Callable[[int], Awaitable[None]]:
    borrow = borrower.way.borrow

    async def borrow_each(operations: int) -> None:
        for _ in range(operations):
            await borrow()

    return borrow_each


def _targets(
    saturated: Comparison, thinking: Comparison, alone: Comparison, distant: Comparison
) -> list[Target]:
    targets = []
    for ours in (RUN, ENGINE):
        for load, comparison, peer, least in (
            (_SATURATED, saturated, DEFAULT, 1.5),
            (_THINKING, thinking, DEFAULT, 2.0),
            (_SATURATED, saturated, DRIVER, 0.4),
        ):
            what = f"{ours}, {load}: throughput to that of {peer}"
            targets.append(Target(what, comparison.ratios(peer, ours), ">=", least, "x"))
    for ours in (RUN, ENGINE):
        what = f"{ours}, acquire and release: time to that of {DRIVER}"
        targets.append(Target(what, alone.ratios(ours, DRIVER), "<", 1.0, "x"))
    above = [
        (own - peer) * 1e6
        for own, peer in zip(_wall(alone, ENGINE), _wall(alone, TUNED), strict=True)
    ]
    targets.append(
        Target(f"{ENGINE}, acquire and release: above {TUNED}", above, "<=", 10.0, " µs")
    )
    four = distant.ratios(growth.FOUR, growth.ONE)
    targets.append(Target("connecting four databases: time to that of one", four, "<=", 1.5, "x"))
    return targets


def _wall(comparison: Comparison, contender: str) -> Sequence[float]:
    return comparison.measurements[contender].wall


def _connect_table(connects: Sequence[Connects]) -> str:
    head = ["", "connects", "statements", "per 1,000", "target", ""]
    rows = [
        [
            f"{opened.load}: {opened.contender}",
            f"{opened.connects:,}",
            f"{opened.statements:,}",
            f"{opened.connects / opened.statements * 1000:.2f}",
            "" if opened.expected is None else f"== {opened.expected}",
            opened.verdict,
        ]
        for opened in connects
    ]
    return f"Physical connections opened, warm-up included\n{aligned([head, *rows])}"
