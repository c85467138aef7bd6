"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.harness import Comparison

__all__ = ["Outcome", "aligned", "table", "unit_of"]

_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
# Below so many of a unit, the next smaller one is easier to read.
_TOO_FEW: Final = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark found out."""

    comparisons: Sequence[Comparison]
    findings: Sequence[str] = ()
    """Tables and sentences that follow from the comparisons, computed from them."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The findings as data, and what they depend on beside machine and packages."""


def table(comparison: Comparison) -> str:
    """One line for each contender, wall clock to the left and processor time to the right."""
    baseline = comparison.wall(comparison.baseline)
    seconds, unit = unit_of(baseline.median)
    rows = [["", f"wall {unit}", "p10", "p90", "ratio", f"CPU {unit}", "p10", "p90", "ratio"]]
    for name in comparison.measurements:
        row = [name]
        for figures in (comparison.wall(name), comparison.cpu(name)):
            row += [
                f"{figure / seconds:,.0f}" for figure in (figures.median, figures.p10, figures.p90)
            ]
            row.append(f"{figures.ratio:.2f}")
        rows.append(row)
    rounds = len(comparison.measurements[comparison.baseline].wall)
    return f"{comparison.title}  [{rounds} rounds]\n{aligned(rows)}"


def unit_of(seconds: float) -> tuple[float, str]:
    """The unit in which so many seconds are read most easily, and how many seconds it has."""
    return next((unit for unit in _UNITS if seconds >= _TOO_FEW * unit[0]), _UNITS[-1])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first one to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
