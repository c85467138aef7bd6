"""Any nesting of blocks leaves what it should, and an isolated database cannot be told apart."""

from __future__ import annotations

import pytest

from tests.databases.connected import connected
from tests.databases.programs import Left, Runner, expected, program

SEEDS = range(24)
TOGETHER = 8
"""Programs that share a database, each with an empty table."""


@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
async def test_what_a_program_leaves(database_url: str, first: int) -> None:
    async with connected(database_url) as cast:
        for seed in range(first, first + TOGETHER):
            runner = Runner(cast)
            await runner.run(program(seed))

            assert await runner.left() == expected(program(seed)), seed
            assert len(set(runner.called)) == len(runner.called)
            await cast.User.query.delete()


@pytest.mark.parametrize("first", SEEDS[::TOGETHER])
async def test_what_it_leaves_while_isolated_and_afterwards(database_url: str, first: int) -> None:
    async with connected(database_url) as cast:
        for seed in range(first, first + TOGETHER):
            runner = Runner(cast)
            async with cast.models.rollback():
                await runner.run(program(seed))
                assert await runner.left() == expected(program(seed)), seed

            assert (await runner.left()).rows == set()


def test_the_programs_are_worth_running() -> None:
    programs = [program(seed) for seed in SEEDS]
    left = [expected(program) for program in programs]

    assert len(set(programs)) == len(SEEDS)
    assert sum(map(len, (program.rows for program in left))) > len(SEEDS)
    assert sum(map(len, (program.called for program in left))) > len(SEEDS) / 2
    written = "".join(map(repr, programs))
    for what in ("Gather", "RollBack", "FailingStatement", "fails=True", "force_rollback=True"):
        assert written.count(what) > len(SEEDS) / 4, what
    assert expected(()) == Left()
