"""The reference page lists every check as it is, and no other."""

from __future__ import annotations

import re

from asgi_dbconn.testing.conformance import CHECKS
from tests.support.environments import ROOT

PAGE = ROOT / "docs" / "reference" / "conformance.md"


def test_the_page_lists_every_check_by_number_and_behaviour() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)

    assert rows == [(str(check.number), check.behaviour) for check in CHECKS]


def test_a_behaviour_is_a_sentence() -> None:
    for check in CHECKS:
        assert re.fullmatch(r"[A-Z`].+\.", check.behaviour), check.number
