"""Each numbered scenario of synchronous code has a test that names its number."""

from __future__ import annotations

import re
from pathlib import Path

SCENARIOS = set(range(1, 59))
# "Scenario 12, ...", "Scenarios 8, 9 and 10", "Scenarios 17 to 19"
NAMED = re.compile(r'"""Scenarios? ((?:\d+(?:, | and | to )?)+)')
RANGE = re.compile(r"(\d+) to (\d+)")
TESTS = Path(__file__).parents[1]


def test_every_scenario_is_shown_somewhere() -> None:
    shown: set[int] = set()
    for folder in ("loops", "registry_sync", "wsgi"):
        for path in (TESTS / folder).glob("test_*.py"):
            for numbers in NAMED.findall(path.read_text()):
                shown |= {int(number) for number in re.findall(r"\d+", numbers)}
                for first, last in RANGE.findall(numbers):
                    shown |= set(range(int(first), int(last) + 1))

    assert SCENARIOS - shown == set()
