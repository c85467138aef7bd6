"""Objects agree with a model of them, whichever blocks they are stored in, and which fail."""

from __future__ import annotations

import pytest

from tests.orm.object_programs import Program
from tests.orm.shop import shop

SEEDS = range(120)
TOGETHER = 30
"""Programs that share a database, one after the other."""


@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
async def test_what_objects_know_after_a_program(database_url: str, first: int) -> None:
    async with shop(database_url) as cast:
        for seed in range(first, first + TOGETHER):
            await Program(cast, seed).run()
            await cast.Line.query.delete()
            await cast.Order.query.delete()
            await cast.Item.query.delete()
