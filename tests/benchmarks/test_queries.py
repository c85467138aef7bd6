"""The contenders of `queries` do the same work, and one that does not is found out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import queries
from benchmarks.contenders.work import USERS
from benchmarks.entrants import DRIVER, MAPPERS, OURS, OWN
from benchmarks.harness import Comparison, Contender, Effort, Measurement, Spent, compare_now
from benchmarks.programs import ContenderFailure, Program, Running, running
from benchmarks.query_findings import CREATE, GET, losses, targets
from benchmarks.users_table import UsersTable
from tests.support.postgres import PostgresServer

THIS_PYTHON = Path(sys.executable)


@pytest.fixture
def table(postgres: PostgresServer, postgres_url: str) -> UsersTable:
    return UsersTable(postgres, postgres_url)


@pytest.fixture
def contender(postgres_url: str, table: UsersTable) -> Iterator[Running]:
    with running({DRIVER: Program(THIS_PYTHON, "asyncpg_pool")}, postgres_url) as contenders:
        yield contenders[DRIVER]


@pytest.mark.slow
@pytest.mark.postgres
def test_a_quick_run_of_those_in_our_environment_judges_every_target_that_names_them() -> None:
    outcome = queries.run(quick=True, among=OWN)

    assert len(outcome.comparisons) == 7
    assert all(set(comparison.measurements) == set(OWN) for comparison in outcome.comparisons)
    assert {fact["verdict"] for fact in outcome.facts["targets"]} <= {"met", "not met"}
    assert all(fact["samples"] for fact in outcome.facts["targets"])
    assert outcome.facts["round_trips"][OURS] == dict.fromkeys(
        outcome.facts["round_trips"][OURS], 1
    )
    assert set(outcome.facts["contenders"]) == set(OWN)
    assert "Left out" in outcome.findings[-1]


@pytest.mark.slow
@pytest.mark.postgres
def test_every_task_has_a_turn_before_those_that_are_counted(contender: Running) -> None:
    assert contender.turns("get", 5) == 6
    wall, cpu = contender.do("get", 20, tasks=3)
    assert wall > 0
    assert cpu > 0


@pytest.mark.slow
@pytest.mark.postgres
def test_a_contender_that_sees_or_stores_something_else_is_refused(
    contender: Running, table: UsersTable
) -> None:
    seen = contender.check(table.KEY)

    table.check("honest", seen)
    with pytest.raises(RuntimeError, match=r"careless does not do what .* \(page\)"):
        table.check("careless", {**seen, "page": seen["page"][::-1]})
    with pytest.raises(RuntimeError, match=r"lossy does not do what .* \(changed\)"):
        table.check("lossy", {**seen, "changed": seen["one"]})


@pytest.mark.slow
@pytest.mark.postgres
def test_restoring_the_table_takes_back_what_was_created_and_changed(
    contender: Running, table: UsersTable
) -> None:
    contender.do("create", 5)
    contender.do("update", USERS)

    table.restore()

    table.check("honest", contender.check(table.KEY))


@pytest.mark.slow
@pytest.mark.postgres
def test_a_contender_that_fails_says_why(contender: Running) -> None:
    with pytest.raises(ContenderFailure, match=r"(?s)asyncpg pool, no objects has ended:.*'fly'"):
        contender.do("fly", 1)
    with pytest.raises(ContenderFailure, match="has ended"):
        contender.do("get", 1)


@pytest.mark.server
def test_a_contender_that_does_not_start_says_why() -> None:
    program = Program(THIS_PYTHON, "nobody")

    with pytest.raises(ContenderFailure, match=r"(?s)ghost has ended:.*contenders\.nobody"):
        with running({"ghost": program}, "postgresql://127.0.0.1/none"):
            pass


def _found(**walls: list[float]) -> dict[str, Comparison]:
    names = {"ours": OURS, "driver": DRIVER, "peer": MAPPERS[0]}
    measurements = {
        names[key]: Measurement(names[key], 1, wall=wall, cpu=wall) for key, wall in walls.items()
    }
    cases: Any = ("get", "get, at once", "page", "create", "get, far")
    return {case: Comparison(case, DRIVER, measurements) for case in cases}


def test_the_times_of_a_program_that_measures_itself_are_believed() -> None:
    contender = Contender("it", lambda times: Spent(wall=2.0 * times, cpu=1.0 * times))

    comparison = compare_now("themselves", [contender], Effort(3, 8.0), baseline="it")

    measured = comparison.measurements["it"]
    assert (measured.operations, measured.wall, measured.cpu) == (4, [2.0] * 3, [1.0] * 3)


def test_a_peer_that_was_faster_in_most_rounds_is_listed_for_either_clock() -> None:
    found = _found(ours=[2.0, 3.0, 1.0], peer=[1.0, 2.0, 2.0], driver=[0.5, 0.5, 0.5])

    lost = [loss for loss in losses(found) if loss.case == GET]

    assert [(finding.peer, finding.clock) for finding in lost] == [
        (MAPPERS[0], "wall"),
        (MAPPERS[0], "CPU"),
    ]
    assert {(finding.factor, finding.rounds_lost, finding.rounds) for finding in lost} == {
        (1.5, 2, 3)
    }


def test_only_those_who_took_part_are_targets() -> None:
    found = _found(ours=[1.0, 1.0], driver=[0.6, 0.6])

    judged = targets(found, {OURS: {CREATE: 1.0}})

    assert {finding.what.rpartition("that of ")[2] for finding in judged[:-1]} == {DRIVER}
    assert [(finding.what, finding.verdict) for finding in judged[-1:]] == [
        ("create: round trips", "met")
    ]
