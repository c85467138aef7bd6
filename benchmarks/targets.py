"""What was hoped for, next to what came out; the verdict is computed, never typed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final, Literal

from benchmarks.report import aligned

__all__ = ["Target", "as_data", "target_table"]

Comparator = Literal["<=", ">=", "<", "=="]

_COMPARE: Final[Mapping[Comparator, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Target:
    """One sentence about numbers, which is true or not."""

    what: str
    samples: Sequence[float]
    """One for each round, compared within the round."""
    comparator: Comparator
    limit: float
    unit: str = ""

    @property
    def measured(self) -> float:
        return median(self.samples)

    @property
    def rounds_met(self) -> int:
        compare = _COMPARE[self.comparator]
        return sum(compare(sample, self.limit) for sample in self.samples)

    @property
    def verdict(self) -> str:
        """By the median; a round alone is at the mercy of its moment."""
        return "met" if _COMPARE[self.comparator](self.measured, self.limit) else "not met"


def target_table(targets: Sequence[Target]) -> str:
    head = ["", "measured", "target", "", "rounds"]
    rows = [
        [
            target.what,
            f"{target.measured:.2f}{target.unit}",
            f"{target.comparator} {target.limit:g}{target.unit}",
            target.verdict,
            f"{target.rounds_met} of {len(target.samples)}",
        ]
        for target in targets
    ]
    return f"Targets\n{aligned([head, *rows])}"


def as_data(targets: Sequence[Target]) -> list[dict[str, Any]]:
    return [
        asdict(target) | {"measured": target.measured, "verdict": target.verdict}
        for target in targets
    ]
