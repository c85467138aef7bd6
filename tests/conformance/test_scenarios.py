"""Each of the 56 lifespan scenarios has a test: a check, or a test that names its number."""

from __future__ import annotations

import re

from asgi_dbconn.testing.conformance import CHECKS
from tests.support.environments import ROOT

SCENARIOS = set(range(1, 57))
# "Scenario 12, ...", "Scenarios 8, 9 and 10", "Scenarios 17 to 19"
NAMED = re.compile(r'"""Scenarios? ((?:\d+(?:, | and | to )?)+)')


def test_every_scenario_is_shown_somewhere() -> None:
    shown = {check.number for check in CHECKS}
    for folder in ("frameworks", "lifespan", "servers"):
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            for numbers in NAMED.findall(path.read_text()):
                shown |= {int(number) for number in re.findall(r"\d+", numbers)}

    assert SCENARIOS - shown == set()
