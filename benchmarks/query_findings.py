"""What follows from the comparisons of `queries`: ratios, targets, and where a peer is faster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from benchmarks.entrants import DRIVER, MAPPERS, OURS, PICCOLO, SESSION
from benchmarks.harness import Comparison
from benchmarks.report import aligned
from benchmarks.targets import Comparator, Target

__all__ = [
    "CREATE",
    "DISTANT",
    "GET",
    "GET_AT_ONCE",
    "PAGE_OF_MANY",
    "Loss",
    "absence",
    "loss_table",
    "losses",
    "ratio_table",
    "round_trip_table",
    "targets",
    "version_table",
]

GET: Final = "get"
GET_AT_ONCE: Final = "get, at once"
PAGE_OF_MANY: Final = "page"
CREATE: Final = "create"
DISTANT: Final = "get, far"

_Limit = tuple[Comparator, float]
_AHEAD: Final[_Limit] = ("<", 1.0)
_AHEAD_OF_ALL: Final[Mapping[str, _Limit]] = dict.fromkeys(MAPPERS, _AHEAD)
_GET_LIMITS: Final[Mapping[str, _Limit]] = {
    DRIVER: ("<=", 2.0),
    **_AHEAD_OF_ALL,
    PICCOLO: ("<=", 0.75),
    SESSION: ("<=", 0.4),
}
_LIMITS: Final[Mapping[str, Mapping[str, _Limit]]] = {
    GET: _GET_LIMITS,
    GET_AT_ONCE: _GET_LIMITS,
    PAGE_OF_MANY: {DRIVER: ("<=", 4.0), PICCOLO: ("<=", 0.7)},
    CREATE: _AHEAD_OF_ALL,
    DISTANT: {DRIVER: _AHEAD},
}
"""By case and by contender: how many times its wall time ours may be."""


def targets(
    found: Mapping[str, Comparison], round_trips: Mapping[str, Mapping[str, float]]
) -> list[Target]:
    """Those that can be judged; a contender that did not take part has none."""
    judged = []
    for case, limits in _LIMITS.items():
        comparison = found[case]
        for name, (comparator, limit) in limits.items():
            if name in comparison.measurements:
                what = f"{case}: time to that of {name}"
                ratios = comparison.ratios(OURS, name)
                judged.append(Target(what, ratios, comparator, limit, "x"))
    trips = [round_trips[OURS][CREATE]]
    return [*judged, Target(f"{CREATE}: round trips", trips, "==", 1)]


def ratio_table(found: Mapping[str, Comparison]) -> str:
    """Everybody in relation to Piccolo, where that takes part; to the driver, the tables say."""
    names = list(found[GET].measurements)
    if PICCOLO not in names:
        return ""
    rows = [["", *found]]
    for name in names:
        cells = []
        for comparison in found.values():
            to_piccolo = replace(comparison, baseline=PICCOLO)
            wall, cpu = to_piccolo.wall(name), to_piccolo.cpu(name)
            cells.append(f"{wall.ratio:.2f} {cpu.ratio:.2f}")
        rows.append([name, *cells])
    return f"Times as long as {PICCOLO}: wall and CPU\n{aligned(rows)}"


def round_trip_table(counts: Mapping[str, Mapping[str, float]]) -> str:
    rows = [["", *next(iter(counts.values()))]]
    rows += [
        [name, *(f"{figure:.2f}" for figure in count.values())] for name, count in counts.items()
    ]
    return f"Round trips for one operation, counted\n{aligned(rows)}"


@dataclass(frozen=True, slots=True)
class Loss:
    """A peer that was faster than we were."""

    case: str
    peer: str
    clock: str
    factor: float
    """How many times its time ours was: the median of the rounds."""
    rounds_lost: int
    rounds: int


def losses(found: Mapping[str, Comparison]) -> list[Loss]:
    """By the wall clock and by processor time. The driver is no peer: it makes no objects."""
    return [
        Loss(case, peer, clock, median(ratios), sum(ratio > 1 for ratio in ratios), len(ratios))
        for case, comparison in found.items()
        for peer in MAPPERS
        if peer in comparison.measurements
        for clock, ratios in _ratios(comparison, peer)
        if median(ratios) > 1
    ]


def _ratios(comparison: Comparison, peer: str) -> Iterator[tuple[str, list[float]]]:
    yield "wall", comparison.ratios(OURS, peer)
    ours, theirs = comparison.measurements[OURS].cpu, comparison.measurements[peer].cpu
    yield "CPU", [own / other for own, other in zip(ours, theirs, strict=True)]


def loss_table(lost: Sequence[Loss]) -> str:
    rows = [["", "times as long", "rounds"]]
    rows += [
        [
            f"{loss.case}, {loss.clock}: {loss.peer}",
            f"{loss.factor:.2f}",
            f"{loss.rounds_lost} of {loss.rounds}",
        ]
        for loss in lost
    ]
    return f"Where a peer is faster than {OURS}\n{aligned(rows) if lost else '  nowhere'}"


def version_table(versions: Mapping[str, Mapping[str, str]]) -> str:
    lines = [
        f"  {name}: " + ", ".join(f"{package} {figure}" for package, figure in packages.items())
        for name, packages in versions.items()
    ]
    return "\n".join(["Versions", *lines])


def absence(present: Collection[str]) -> str:
    """Who did not take part, and what to do about it; nothing if all did."""
    missing = [name for name in MAPPERS if name not in present]
    if not missing:
        return ""
    return (
        f"Left out, with the targets that name them: {', '.join(missing)}. "
        "A run without --quick makes the environments that they need."
    )
