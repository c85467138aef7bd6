"""Our own wrapper passes every lifespan check."""

from __future__ import annotations

import pytest

from asgi_dbconn import LifespanMiddleware
from asgi_dbconn.testing.conformance import CHECKS, Check, Outcome, run


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.number}-{check.behaviour}")
def test_our_middleware(check: Check) -> None:
    assert run(check, LifespanMiddleware) == Outcome(True)
