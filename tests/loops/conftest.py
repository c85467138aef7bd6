"""Every kind of loop, and every place to call from."""

from __future__ import annotations

import pytest

from tests.loops.situations import KINDS, PLACES, LoopFactory, Place


@pytest.fixture(params=sorted(KINDS))
def factory(request: pytest.FixtureRequest) -> LoopFactory:
    return KINDS[request.param]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, factory: LoopFactory) -> Place:
    return Place(request.param, factory)
