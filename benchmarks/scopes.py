"""Blocks that share one connection, and savepoints, next to SQLAlchemy's and the driver's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from benchmarks.blocks import (
    CONNECTION,
    DRIVER,
    ENGINE,
    OURS,
    SAVEPOINT,
    SESSION,
    SESSIONS,
    SESSIONS_BEGIN,
    TRANSACTION,
    Blocks,
    open_blocks,
)
from benchmarks.harness import Comparison, Contender, Effort, Run, compare, joined
from benchmarks.launches import launch
from benchmarks.programs import MEMORY, keep_on_one_core
from benchmarks.report import Outcome, aligned
from benchmarks.targets import Target, as_data, target_table
from tests.support.postgres import PostgresServer

__all__ = ["FREE", "PINNED", "STATEMENTS", "Case", "run", "targets"]

PINNED: Final = "one core"
FREE: Final = "all cores"
_KINDS: Final = (CONNECTION, SESSION, TRANSACTION, SAVEPOINT)
STATEMENTS: Final = (0, 1, 5)


@dataclass(frozen=True, slots=True)
class _Thoroughness:
    effort: Effort
    launches: int
    """For each spread; a process has its luck with where its memory lies."""


_FULL: Final = _Thoroughness(Effort(rounds=20, batch=0.05), launches=2)
_QUICK: Final = _Thoroughness(Effort(rounds=3, batch=0.01), launches=1)


@dataclass(frozen=True, slots=True)
class Case:
    """The subject of one comparison."""

    kind: str
    statements: int
    cores: str

    @property
    def title(self) -> str:
        number = {0: "empty", 1: "one statement"}.get(
            self.statements, f"{self.statements} statements"
        )
        return f"{self.kind}, {number}, {self.cores}"


_Found = Mapping[Case, Comparison]
_LIMITS: Final[Mapping[tuple[str, str], float]] = {
    (TRANSACTION, DRIVER): 1.6,
    (CONNECTION, ENGINE): 0.95,
    (SESSION, SESSIONS): 1.0,
}
"""How many times the time of a contender ours may be, for a block of one statement on one core."""


def run(*, quick: bool) -> Outcome:
    """Measure on a PostgreSQL server that is made for it, in processes made for it.

    On one core, the measuring process and the server's processes share that core, where the
    system can pin them; a server that runs elsewhere stays where it is.
    """
    how = _QUICK if quick else _FULL
    launches: dict[str, list[_Found]] = {}
    with _memory_settings(), PostgresServer() as server:
        (shown,) = server.fetch("SHOW server_version")
        pid = None if server.is_external else server.pid
        cores_of_server = _affinity(pid)
        for cores in (PINNED, FREE):
            if cores == PINNED and not (pid is not None and keep_on_one_core(pid)):
                continue
            for _ in range(how.launches):
                # Connections of the pools are begun after the server was pinned, and inherit that.
                with server.database("benchmark") as url:
                    launches.setdefault(cores, []).extend(
                        launch(partial(_compare_all, url, cores, how.effort), 1)
                    )
            if cores == PINNED and pid is not None:
                os.sched_setaffinity(pid, cores_of_server)
    found = {
        case: joined([launched[case] for launched in several])
        for several in launches.values()
        for case in several[0]
    }
    judged = list(targets(found))
    return Outcome(
        list(found.values()),
        [_summary(found), target_table(judged)],
        {
            "postgresql": str(shown[0]),
            "launches": how.launches,
            "server_on_one_core": PINNED in launches,
            "targets": as_data(judged),
        },
    )


@contextmanager
def _memory_settings() -> Iterator[None]:
    """Let the processes that are launched inside keep the memory that they free."""
    before = {name: os.environ.get(name) for name in MEMORY}
    os.environ.update(MEMORY)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _affinity(pid: int | None) -> set[int]:
    if pid is None or not hasattr(os, "sched_getaffinity"):
        return set()
    return os.sched_getaffinity(pid)


def _compare_all(url: str, cores: str, effort: Effort) -> dict[Case, Comparison]:
    """Every case, in a process of its own."""
    if cores == PINNED:
        keep_on_one_core(0)
    return asyncio.run(_compare_blocks(url, cores, effort))


async def _compare_blocks(url: str, cores: str, effort: Effort) -> dict[Case, Comparison]:
    found = {}
    async with open_blocks(url) as blocks:
        for kind in _KINDS:
            for statements in STATEMENTS:
                case = Case(kind, statements, cores)
                contenders = [
                    Contender(name, _repeat(block, statements), at_least=5)
                    for name, block in blocks[kind].items()
                ]
                found[case] = await compare(case.title, contenders, effort, baseline=DRIVER)
    return found


def _repeat(block: Blocks, statements: int) -> Run:
    return lambda blocks: block(blocks, statements)


def targets(found: _Found) -> Iterator[Target]:
    """Those of one core; without pinning there are none."""
    for (kind, peer), limit in _LIMITS.items():
        comparison = found.get(Case(kind, 1, PINNED))
        if comparison is not None:
            what = f"{comparison.title}: time to that of {peer}"
            yield Target(what, comparison.ratios(OURS, peer), "<=", limit, "x")


def _summary(found: _Found) -> str:
    peers = (DRIVER, ENGINE, SESSIONS, SESSIONS_BEGIN)
    rows = [["", "wall µs", *peers]]
    for comparison in found.values():
        ratios = [
            f"{median(comparison.ratios(OURS, peer)):.2f}"
            if peer in comparison.measurements
            else ""
            for peer in peers
        ]
        rows.append([comparison.title, f"{comparison.wall(OURS).median * 1e6:.0f}", *ratios])
    return f"{OURS}, and how many times as long as the others it takes\n{aligned(rows)}"
