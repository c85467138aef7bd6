"""What run_sync costs in each place that it is called from, next to the other bridges."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Final

from asgi_dbconn import Registry
from benchmarks import edgy
from benchmarks.bridges import (
    AWAIT,
    ENVIRONMENT,
    KINDS,
    OURS,
    PLACES,
    UNTIL_COMPLETE,
    Stage,
)
from benchmarks.harness import Comparison, Effort, joined
from benchmarks.launches import launch
from benchmarks.report import Outcome, aligned
from benchmarks.targets import Target, as_data, target_table
from benchmarks.wakeups import count_wakeups, wakeup_table
from tests.support.postgres import PostgresServer

__all__ = ["FREE", "NOTHING", "Case", "losses", "run"]

NOTHING: Final = "A no-op"
QUERY: Final = "A query"
PINNED: Final = "one core"
FREE: Final = "all cores"
_SPREADS: Final = (PINNED, FREE) if hasattr(os, "sched_setaffinity") else (FREE,)
"""Where one thread wakes another one, it matters most whether that sleeps on another core."""


_OURS: Final = {OURS, ENVIRONMENT}


@dataclass(frozen=True, slots=True)
class _Thoroughness:
    effort: Effort
    launches: int
    """For each spread, in turns."""
    windows: int


_FULL: Final = _Thoroughness(Effort(rounds=15, batch=0.02), launches=2, windows=3)
_QUICK: Final = _Thoroughness(Effort(rounds=3, batch=0.004), launches=1, windows=1)


@dataclass(frozen=True, slots=True)
class Case:
    """What one comparison is about."""

    work: str
    place: str
    kind: str
    cores: str

    @property
    def title(self) -> str:
        loops = "" if len(PLACES[self.place].kinds) == 1 else f", {self.kind}"
        return f"{self.work} {PLACES[self.place].name}{loops}, {self.cores}"


def run(*, quick: bool) -> Outcome:
    """Measure with a PostgreSQL server that is made for it, in processes made for it."""
    how = _QUICK if quick else _FULL
    edgy.install()  # before the clock runs anywhere
    launches: dict[str, list[dict[Case, Comparison]]] = {cores: [] for cores in _SPREADS}
    with PostgresServer() as server, server.database("benchmark") as url:
        (shown,) = server.fetch("SHOW server_version")
        for _ in range(how.launches):
            for cores in _SPREADS:
                launches[cores] += launch(partial(_compare_all, url, cores, how.effort), 1)
    wakeups = {
        kind: counts
        for kind in KINDS
        for counts in launch(partial(count_wakeups, kind, how.windows), 1)
        if counts
    }
    found = {
        case: joined([launch[case] for launch in launches[cores]])
        for cores in _SPREADS
        for case in launches[cores][0]
    }
    targets = [*_targets(found), *_idle_targets(wakeups)]
    lost = [*losses(found)]
    return Outcome(
        list(found.values()),
        [
            *([wakeup_table(wakeups)] if wakeups else []),
            _loss_table(lost),
            target_table(targets),
        ],
        {
            "postgresql": str(shown[0]),
            "edgy": edgy.VERSION,
            "launches": how.launches,
            "wakeups": wakeups,
            "losses": [asdict(finding) for finding in lost],
            "targets": as_data(targets),
        },
    )


def _compare_all(url: str, cores: str, effort: Effort) -> dict[Case, Comparison]:
    """Every case, in a process of its own, whose threads all stay where they are put."""
    if cores == PINNED:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = {}
    for name, place in PLACES.items():
        # For a query the kind of loop makes little difference.
        for work, kinds in ((NOTHING, place.kinds), (QUERY, place.kinds[:1])):
            for kind in kinds:
                case = Case(work, name, kind, cores)
                models = Registry(url)
                do = models.database.ping if work == QUERY else _nothing
                stage = Stage(case.title, do, models, kind, effort)
                found[case] = place.compare(stage, place.baseline)
    return found


async def _nothing() -> None:
    """What remains is the bridge."""


def _targets(found: Mapping[Case, Comparison]) -> Iterator[Target]:
    for case, comparison in found.items():
        if case.place == "idle" and case.work == NOTHING:
            for ours in (OURS, ENVIRONMENT):
                what = f"{case.title}: {ours} to {UNTIL_COMPLETE}"
                yield Target(what, comparison.ratios(ours, UNTIL_COMPLETE), "<=", 1.35, "x")
        elif case.place == "inside":
            for peer in _peers(comparison):
                what = f"{case.title}: {OURS} to {peer}"
                yield Target(what, comparison.ratios(OURS, peer), "<", 1.0, "x")


def _idle_targets(wakeups: Mapping[str, Mapping[str, Sequence[int]]]) -> Iterator[Target]:
    for kind, counts in wakeups.items():
        yield Target(f"Wake-ups of an idle subloop, {kind}", counts[OURS], "==", 0)


@dataclass(frozen=True, slots=True)
class Loss:
    """A peer that was faster than we were."""

    case: Case
    ours: str
    peer: str
    factor: float
    """How many times its wall time ours was: the median of the rounds."""
    rounds_lost: int
    rounds: int


def losses(found: Mapping[Case, Comparison]) -> Iterator[Loss]:
    """Every peer that was ahead of one of ours by the median of the rounds, however little."""
    for case, comparison in found.items():
        for ours in (name for name in comparison.measurements if name in _OURS):
            for peer in _peers(comparison):
                ratios = comparison.ratios(ours, peer)
                if median(ratios) > 1:
                    rounds = sum(ratio > 1 for ratio in ratios)
                    yield Loss(case, ours, peer, median(ratios), rounds, len(ratios))


def _peers(comparison: Comparison) -> list[str]:
    return [name for name in comparison.measurements if name not in _OURS | {AWAIT}]


def _loss_table(lost: Sequence[Loss]) -> str:
    rows = [["", "times as long", "rounds"]]
    rows += [
        [
            f"{finding.case.title}: {finding.ours} against {finding.peer}",
            f"{finding.factor:.2f}",
            f"{finding.rounds_lost} of {finding.rounds}",
        ]
        for finding in lost
    ]
    return f"Where a peer is faster\n{aligned(rows) if lost else '  nowhere'}"
