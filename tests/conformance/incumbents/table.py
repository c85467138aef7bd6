"""The comparison as text: a row per scenario, a column per wrapper, and reasons in short."""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Final

__all__ = ["Result", "Row", "in_full", "in_short", "table"]

_BEHAVIOUR: Final = 46
_CELL: Final = 24
_PARTS: Final = 3
_STORY: Final = re.compile(r"^[^:\[]+: (\[.*\]) instead of (\[.*\])$")
_RAISED: Final = re.compile(r"^raised:? (\w+)(?:\(.*\))? instead of ", re.DOTALL)
_MESSAGE: Final = re.compile(r"^the key 'message' is (.*) and lacks ('.*')$", re.DOTALL)
_NEVER: Final = {
    "open": "never opens",
    "closed": "never closes",
    "lifespan.startup": "never receives startup",
    "lifespan.shutdown": "never receives shutdown",
}


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
    cells = [[row.behaviour, *(_cell(row.results[name]) for name in titles)] for row in rows]
    header = ["a conforming wrapper", *titles.values()]
    total = ["passed", *(_total(rows, name) for name in titles)]
    columns = list(zip(header, total, *cells, strict=True))
    widths = [_BEHAVIOUR, *(min(_CELL, max(map(len, column))) for column in columns[1:])]
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
    """A few words for a column; of a story, what went another way."""
    if match := _STORY.match(reason):
        parts = [*_differences(ast.literal_eval(match[1]), ast.literal_eval(match[2]))]
        return "; ".join(parts[:_PARTS] + (["…"] if len(parts) > _PARTS else []))
    if match := _RAISED.match(reason):
        return "raises nothing" if match[1] == "None" else f"raises {match[1]}"
    if match := _MESSAGE.match(reason):
        return "no 'message'" if match[1] == "None" else f"'message' lacks {match[2]}"
    if reason.startswith(("hangs", "raises")):
        return reason.partition(":")[0]
    words = re.split(r": [<\[]", reason.removesuffix(": True instead of False"))[0]
    return textwrap.shorten(words, 3 * _CELL, placeholder=" …")


def _differences(actual: Sequence[str], expected: Sequence[str]) -> Iterator[str]:
    """How one story is another than it should be: its order, what is too much, what is missing."""
    for one, other in pairwise(actual):
        if one in expected and other in expected and _last(expected, other) < expected.index(one):
            yield f"{_word(one)} before {_word(other)}"
    happened, due = Counter(actual), Counter(expected)
    for event in happened - due:
        yield _word(event) + (" again" if event in due else "")
    for event in due - happened:
        yield _NEVER.get(event, f"no {_word(event)}")


def _last(events: Sequence[str], event: str) -> int:
    return len(events) - 1 - list(reversed(events)).index(event)


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
