"""Random histories, a bounded number of them: nothing acknowledged is ever lost."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.histories import events
from tests.histories.generator import generate
from tests.histories.laboratory import Laboratory, Verdict, laboratory
from tests.histories.listing import listing
from tests.histories.shrinker import shrink, size
from tests.histories.steps import Database, Program, bodies, walk
from tests.histories.vocabulary import EVERYTHING, PORTABLE
from tests.support.postgres import PostgresServer

SECONDS: Final = 45.0
LEAST: Final = 60
"""Histories on each database, however slow the machine is."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def test_histories_break_no_promise(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: PostgresServer | None = None
    if database == "postgresql":
        server = request.getfixturevalue("postgres")
    seen: Counter[str] = Counter()
    deadline = time.monotonic() + SECONDS
    with laboratory(database, tmp_path, server) as lab:
        seed = 0
        while seed < LEAST or time.monotonic() < deadline:
            verdict = lab.run(generate(seed, database))
            if verdict.findings:
                pytest.fail(report(lab, verdict))
            seen += events.count(verdict)
            seed += 1

    assert seen["block: committed"] > LEAST
    assert seen["block: rolled back"] > LEAST / 2
    assert seen["block: ended beside a task's statement or block"] > 0
    assert sum(times for event, times in seen.items() if event.startswith("cancel")) > LEAST / 4


def report(lab: Laboratory, verdict: Verdict) -> str:
    """Say what was found, with a short program that shows the first of it."""
    symptom = verdict.findings[0].symptom

    def fails(program: Program) -> bool:
        return symptom in lab.run(program).symptoms

    found = "\n".join(map(str, verdict.findings))
    return f"{found}\n\n{listing(shrink(verdict.program, fails, 20.0))}"


# -- the generator


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_seed_makes_the_same_program_each_time(database: Database) -> None:
    assert generate(5, database) == generate(5, database)
    assert generate(5, database) != generate(6, database)


def test_the_generator_uses_the_whole_language() -> None:
    programs = [generate(seed, "postgresql") for seed in range(400)]
    used = {
        type(step).__name__
        for program in programs
        for request in program.requests
        for step in walk(request.body)
    } | {type(fault).__name__ for program in programs for fault in program.faults}

    parts = {"Program", "Request"}
    assert used == EVERYTHING.steps - parts
    assert {program.pool_size for program in programs} == {1, 2, 3, 4}
    assert any(program.needs_worker for program in programs)
    assert any(program.query_timeout for program in programs)


def test_a_smaller_vocabulary_is_kept_to() -> None:
    for seed in range(100):
        program = generate(seed, "postgresql", PORTABLE)
        steps = [step for request in program.requests for step in walk(request.body)]
        assert {type(step).__name__ for step in steps} <= PORTABLE.steps
        assert {type(fault).__name__ for fault in program.faults} <= PORTABLE.faults
        assert not program.needs_worker


def test_every_program_can_be_printed_as_python() -> None:
    for seed in range(200):
        text = listing(generate(seed, "postgresql"))
        compile(text, f"seed {seed}", "exec")


# -- the shrinker


def test_a_program_is_shrunk_to_what_the_failure_needs() -> None:
    def has_two_creations(program: Program) -> bool:
        steps = [step for request in program.requests for step in walk(request.body)]
        return sum(type(step).__name__ == "Create" for step in steps) >= 2

    programs = (generate(seed, "postgresql") for seed in range(50))
    big = max(filter(has_two_creations, programs), key=size)
    assert size(big) > 20
    small = shrink(big, has_two_creations, 30.0)

    assert size(small) == 2
    assert not small.faults
    assert small.pool_size == 1


def test_what_does_not_fail_again_is_left_as_it_is() -> None:
    program = generate(1, "postgresql")
    assert shrink(program, lambda _: False, 5.0) == program


def test_containers_are_walked_with_their_contents() -> None:
    program = max((generate(seed, "sqlite") for seed in range(20)), key=size)
    for request in program.requests:
        inside = sum(len(walk(body)) for step in request.body for body in bodies(step))
        assert len(walk(request.body)) == len(request.body) + inside
