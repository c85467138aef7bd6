"""Each check can fail: for every one there is a wrapper that is careless in just what it asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asgi_dbconn.testing.conformance import CHECKS, Check, run
from tests.conformance.careless import CARELESS, Careless
from tests.support.leftovers import no_leftovers

FINDINGS = [
    pytest.param(careless, check, id=f"{careless.name}-{check.number}")
    for careless in CARELESS
    for check in CHECKS
    if check.number in careless.found_out_by
]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    # asyncio may complain of them: losing tasks is what some are careless in.
    with no_leftovers():
        yield


@pytest.mark.parametrize(("careless", "check"), FINDINGS)
def test_a_careless_wrapper_is_found_out(careless: Careless, check: Check) -> None:
    outcome = run(check, careless.wrapper)

    assert not outcome.passed
    assert outcome.reason


def test_every_check_finds_out_somebody() -> None:
    found = frozenset[int]().union(*(careless.found_out_by for careless in CARELESS))

    assert sorted(check.number for check in CHECKS) == sorted(found)
