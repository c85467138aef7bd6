"""Measures contenders against each other in one run, so that what disturbs one disturbs all.

Each round gives every contender one batch, in a new random order. Figures are compared within a
round before they are compared between rounds: a machine that slows down for a while slows down
both sides of the ratio.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from benchmarks.figures import Figures

__all__ = [
    "Comparison",
    "Contender",
    "Effort",
    "Measurement",
    "Run",
    "Spent",
    "compare",
    "compare_now",
    "joined",
]


class Spent(NamedTuple):
    """Seconds for a whole batch, as another process has measured them for itself."""

    wall: float
    cpu: float


Run = Callable[[int], Awaitable[None] | Spent | None]
"""Does so many operations: at once, or in the awaitable that it returns."""

_SEED: Final = 1  # the order of the turns is random, but the same in every run
_WARM_UP: Final = 0.1  # rounds that are not counted, as a part of those that are


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work that is compared."""

    name: str
    run: Run
    at_least: int = 1
    """Operations in a batch; more than one where they are done at the same time."""
    units: int = 1
    """What is measured is one of so many parts of an operation that is only done as a whole."""
    undo: Callable[[], Awaitable[object]] | None = None
    """Takes back what a batch has done, outside of the measured time."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look: so many rounds, and so many seconds for each contender in a round."""

    rounds: int
    batch: float


@dataclass(slots=True)
class Measurement:
    """Seconds per operation, or unit of one, of one contender; one sample for each round."""

    contender: str
    operations: int
    """In each batch (of several launches: of the first)."""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of this process with all its threads; what a database server spends is not in it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The measurements of contenders that did the same work, by their names."""

    title: str
    baseline: str
    measurements: dict[str, Measurement]

    def wall(self, contender: str) -> Figures:
        return Figures.of(self.measurements[contender].wall, self.measurements[self.baseline].wall)

    def cpu(self, contender: str) -> Figures:
        return Figures.of(self.measurements[contender].cpu, self.measurements[self.baseline].cpu)

    def ratios(self, one: str, other: str) -> list[float]:
        """How many times as long as ``other`` ``one`` took, on the clock, in each round."""
        pairs = zip(self.measurements[one].wall, self.measurements[other].wall, strict=True)
        return [above / below for above, below in pairs]


def joined(comparisons: Sequence[Comparison]) -> Comparison:
    """One of several launches: the rounds of all of them, one after another."""
    first = comparisons[0]
    whole = {
        name: Measurement(name, measurement.operations)
        for name, measurement in first.measurements.items()
    }
    for comparison in comparisons:
        for name, measurement in comparison.measurements.items():
            whole[name].wall += measurement.wall
            whole[name].cpu += measurement.cpu
    return Comparison(first.title, first.baseline, whole)


async def compare(
    title: str, contenders: Sequence[Contender], effort: Effort, *, baseline: str
) -> Comparison:
    """Measure ``contenders``, interleaved; ``baseline`` names the one that is 1.00."""
    measured = {
        contender.name: Measurement(contender.name, await _operations(contender, effort.batch))
        for contender in contenders
    }
    order = random.Random(_SEED)
    warm_up = max(1, round(effort.rounds * _WARM_UP))
    # What exists by now is nobody's garbage, and is not to be looked through in somebody's turn.
    gc.collect()
    gc.freeze()
    try:
        for number in range(warm_up + effort.rounds):
            for contender in order.sample(contenders, len(contenders)):
                measurement = measured[contender.name]
                wall, cpu = await _time(contender, measurement.operations)
                if number >= warm_up:
                    measurement.wall.append(wall / measurement.operations / contender.units)
                    measurement.cpu.append(cpu / measurement.operations / contender.units)
    finally:
        gc.unfreeze()
    return Comparison(title, baseline, measured)


def compare_now(
    title: str, contenders: Sequence[Contender], effort: Effort, *, baseline: str
) -> Comparison:
    """The same for contenders that await nothing, without an event loop."""
    measuring = compare(title, contenders, effort, baseline=baseline)
    try:
        measuring.send(None)
    except StopIteration as finished:
        comparison: Comparison = finished.value
        return comparison
    measuring.close()
    raise RuntimeError(f"a contender of {title!r} waits for something; compare() can do that")


async def _operations(contender: Contender, batch: float) -> int:
    """How many operations take ``batch`` seconds. Finding out warms caches and pools up, too."""
    operations = contender.at_least
    while True:
        wall, _ = await _time(contender, operations)
        if wall >= batch / 2:
            return max(contender.at_least, round(operations * batch / wall))
        operations *= 2


async def _time(contender: Contender, operations: int) -> Spent:
    cpu, wall = time.process_time(), time.perf_counter()
    waiting = contender.run(operations)
    if waiting is not None and not isinstance(waiting, Spent):
        await waiting
    # In the opposite order: the wall encloses nothing of the other clock's call.
    taken = Spent(time.perf_counter() - wall, time.process_time() - cpu)
    if isinstance(waiting, Spent):
        taken = waiting
    if contender.undo is not None:
        await contender.undo()
    return taken
