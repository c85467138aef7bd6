"""Connections grow old one after another, however they were opened."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.connection_closer import ConnectionCloser
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.urls import DatabaseURL

SIZE, LIFETIME = 10, 2.0
SLOT = 0.2 * LIFETIME / SIZE


class SetLoop(asyncio.SelectorEventLoop):
    """Its clock shows what it is set to."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def lives(openings: list[float], replacements: int = 0) -> list[tuple[float, float]]:
    """When connections were opened, and have to be replaced: those that are opened at these times,
    and so many more, each in the place of the one whose time has come first.
    """

    async def plan() -> list[tuple[float, float]]:
        url = DatabaseURL("postgresql://127.0.0.1/shop")
        target = PoolConfig(
            "shop", url, url, DatabaseOptions(pool_size=SIZE, max_lifetime=LIFETIME)
        )
        liveness = Liveness(target, Events("shop", target.observers), ConnectionCloser(target))
        found: list[tuple[float, float]] = []
        waiting: list[float] = []

        def open_one(at: float) -> None:
            loop.now = at
            record: Any = SimpleNamespace(info={})
            liveness.note_opened(record)
            found.append((at, record.info["asgi_dbconn.retire_at"]))
            heappush(waiting, found[-1][1])

        for opening in openings:
            open_one(opening)
        for _ in range(replacements):
            open_one(heappop(waiting))
        return found

    with asyncio.Runner(loop_factory=SetLoop) as runner:
        loop: Any = runner.get_loop()
        return runner.run(plan())


@pytest.mark.parametrize("replacements", [0, 20 * SIZE])
@pytest.mark.parametrize("gap", [0.0, 0.25, 0.5, 1.0, 1.5, 3.0])
def test_those_that_were_opened_one_after_the_other_do_not_meet(
    gap: float, replacements: int
) -> None:
    found = lives([1000.0 + gap * SLOT * number for number in range(SIZE)], replacements)

    retired = sorted(end for _, end in found)
    assert min(later - sooner for sooner, later in pairwise(retired)) > 0.99 * SLOT
    for opened, end in found:
        assert 0.8 * LIFETIME <= end - opened < LIFETIME
