"""Each numbered scenario of the pools has a test that names its number."""

from __future__ import annotations

import re
from pathlib import Path

# What can go wrong with a pool, 1 to 58, and with SQLite, 71 to 75.
SCENARIOS = {*range(1, 59), *range(71, 76)}
# "Scenario 12, ...", "Scenarios 8, 9 and 10", "Scenarios 17 to 19"
NAMED = re.compile(r'"""Scenarios? ((?:\d+(?:, | and | to )?)+)')


def test_every_scenario_is_shown_somewhere() -> None:
    shown: set[int] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for numbers in NAMED.findall(path.read_text()):
            shown |= {int(number) for number in re.findall(r"\d+", numbers)}

    assert SCENARIOS - shown == set()
