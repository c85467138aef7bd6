"""The comparison as text: a row per scenario, a column per wrapper, and reasons in short."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

__all__ = ["Result", "Row", "in_full", "in_short", "table"]

_BEHAVIOUR: Final = 46
_CELL: Final = 24
_STORY: Final = re.compile(r"^[^:\[]+: (\[.*\]) instead of (\[.*\])$")
_RAISED: Final = re.compile(r"^raised (\w+)(?:\(.*\))? instead of (.*)$", re.DOTALL)


@dataclass(frozen=True)
class Result:
    """How one wrapper did in one scenario."""

    outcome: str
    """``ok``, ``failed`` or ``n/a``."""
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One scenario, and every wrapper's result by the wrapper's name."""

    number: int
    behaviour: str
    results: Mapping[str, Result]


def table(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """All rows, with the totals below."""
    cells = [
        [row.behaviour, *(_cell(row.results[name]) for name in titles)] for row in rows
    ]  # fmt: skip
    header = ["a conforming wrapper", *titles.values()]
    total = ["passed", *(_total(rows, name) for name in titles)]
    widths = [_BEHAVIOUR]
    for column in zip(header, total, *cells, strict=True):
        widths.append(min(_CELL, max(map(len, column))))
    del widths[1]  # the behaviour's own
    rule = "  ".join(["--", *("-" * width for width in widths)])
    lines = [*_lines("no", header, widths), rule]
    for row, texts in zip(rows, cells, strict=True):
        lines += _lines(str(row.number), texts, widths)
    return "\n".join([*lines, rule, *_lines("", total, widths)])


def in_full(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """Every reason as the check gave it."""
    lines: list[str] = []
    for name, title in titles.items():
        for row in rows:
            result = row.results[name]
            if result.outcome != "ok":
                lines += ["", f"{title}, {row.number}: {row.behaviour}", f"  {result.reason}"]
    return "\n".join(lines)


def in_short(reason: str) -> str:
    """A few words for a column; of a story, where it first goes another way."""
    if match := _STORY.match(reason):
        return _fork(ast.literal_eval(match[1]), ast.literal_eval(match[2]))
    if match := _RAISED.match(reason):
        return "raises nothing" if match[1] == "None" else f"raises {match[1]} instead"
    if reason.startswith(("hangs", "raises")):
        return " ".join(reason.split(":")[:1])
    return textwrap.shorten(reason, 2 * _CELL, placeholder=" …")


def _fork(actual: Sequence[str], expected: Sequence[str]) -> str:
    """The first difference between what happened and what should have."""
    for index, (one, other) in enumerate(zip_longest(actual, expected)):
        if one == other:
            continue
        if one is None:
            return f"no {_word(other)}"
        if other is None:
            return f"{_word(one)} once more" if one in expected else f"{_word(one)} at the end"
        if other in actual[index:]:
            return f"{_word(one)} before {_word(other)}"
        return f"{_word(one)}, no {_word(other)}"
    return "the same"


def _word(event: str) -> str:
    return event.removeprefix("lifespan.")


def _cell(result: Result) -> str:
    return in_short(result.reason) if result.outcome == "failed" else result.outcome


def _total(rows: Sequence[Row], name: str) -> str:
    outcomes = [row.results[name].outcome for row in rows]
    offered = len(outcomes) - outcomes.count("n/a")
    return f"{outcomes.count('ok')} of {offered}"


def _lines(number: str, texts: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    wrapped = [textwrap.wrap(text, width) for text, width in zip(texts, widths, strict=True)]
    for index, parts in enumerate(zip_longest(*wrapped, fillvalue="")):
        padded = (part.ljust(width) for part, width in zip(parts, widths, strict=True))
        yield "  ".join([f"{number if index == 0 else '':>2}", *padded]).rstrip()
