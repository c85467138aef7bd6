"""A verdict follows from the samples."""

from __future__ import annotations

import pytest

from benchmarks.targets import Comparator, Target, as_data, target_table


@pytest.mark.parametrize(
    ("comparator", "limit", "verdict"),
    [
        ("<=", 2.0, "met"),
        ("<=", 1.9, "not met"),
        ("<", 2.0, "not met"),
        (">=", 2.0, "met"),
        (">=", 2.1, "not met"),
        ("==", 2.0, "met"),
        ("==", 5.0, "not met"),
    ],
)
def test_the_median_decides(comparator: Comparator, limit: float, verdict: str) -> None:
    target = Target("speed", [1.0, 2.0, 50.0], comparator, limit)

    assert target.measured == 2.0
    assert target.verdict == verdict


def test_the_table_says_in_how_many_rounds_a_target_was_met() -> None:
    target = Target("speed", [1.0, 2.0, 50.0], ">=", 1.5, "x")

    line = target_table([target]).splitlines()[-1]

    assert line.split() == ["speed", "2.00x", ">=", "1.5x", "met", "2", "of", "3"]


def test_the_data_has_the_verdict_next_to_the_samples() -> None:
    (data,) = as_data([Target("speed", [1.0, 3.0], "<=", 1.0)])

    assert (data["samples"], data["measured"], data["verdict"]) == ([1.0, 3.0], 2.0, "not met")
