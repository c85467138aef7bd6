"""What a series of samples says: the middle, the spread, and how sure a ratio is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final, TypeVar

__all__ = ["Figures", "Interval", "interval_of"]

Pairing = TypeVar("Pairing")

_RESAMPLES: Final = 1000
_CONFIDENCE: Final = 0.95
_SEED: Final = 1  # the same samples give the same interval


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds per operation of one contender, over all rounds."""

    median: float
    p10: float
    p90: float
    ratio: float
    """To the baseline: the median of the rounds' own ratios, which a slow second leaves alone."""

    @classmethod
    def of(cls, samples: Sequence[float], baseline: Sequence[float]) -> Figures:
        deciles = quantiles(samples, n=10, method="inclusive")
        ratios = [sample / base for sample, base in zip(samples, baseline, strict=True)]
        return cls(median(samples), deciles[0], deciles[-1], median(ratios))


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, and where it would lie in most repetitions of the same run."""

    value: float
    low: float
    high: float

    def verdict(self, at_most: float) -> str:
        """Whether the value keeps a limit, where the interval is narrow enough to tell."""
        if self.high <= at_most:
            return "met"
        return "missed" if self.low > at_most else "too close to tell"


def interval_of(rounds: Sequence[Pairing], value: Callable[[Sequence[Pairing]], float]) -> Interval:
    """Bootstrap: ``value`` of all rounds, and its interval over rounds drawn with replacement."""
    draw = random.Random(_SEED)
    drawn = sorted(value(draw.choices(rounds, k=len(rounds))) for _ in range(_RESAMPLES))
    cut = round(len(drawn) * (1 - _CONFIDENCE) / 2)
    return Interval(value(rounds), drawn[cut], drawn[-1 - cut])
