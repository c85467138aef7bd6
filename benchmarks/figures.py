"""What a series of samples says: the middle, the spread, and the ratio to another series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

__all__ = ["Figures"]


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
