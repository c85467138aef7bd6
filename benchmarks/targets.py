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
        return sum(compare(each, self.limit) for each in self.samples)

    @property
    def verdict(self) -> str:
        """By the median; a round alone is at the mercy of its moment."""
        return "met" if _COMPARE[self.comparator](self.measured, self.limit) else "not met"


def target_table(targets: Sequence[Target]) -> str:
    head = ["", "measured", "target", "", "rounds"]
    rows = [
        [
            each.what,
            f"{each.measured:.2f}{each.unit}",
            f"{each.comparator} {each.limit:g}{each.unit}",
            each.verdict,
            f"{each.rounds_met} of {len(each.samples)}",
        ]
        for each in targets
    ]
    return f"Targets\n{aligned([head, *rows])}"


def as_data(targets: Sequence[Target]) -> list[dict[str, Any]]:
    return [asdict(each) | {"measured": each.measured, "verdict": each.verdict} for each in targets]
