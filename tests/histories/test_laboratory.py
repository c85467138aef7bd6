"""The laboratory on small programs whose end is known, and on a product that lies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.histories.awaits import counted, statement_of
from tests.histories.fates import History
from tests.histories.laboratory import Laboratory, Verdict, laboratory
from tests.histories.product import ProductRunner
from tests.histories.steps import (
    Attempt,
    Block,
    Cancel,
    Create,
    CutCommit,
    Database,
    Fault,
    Gather,
    Hold,
    Increment,
    Kill,
    Network,
    Program,
    Raise,
    Request,
    Slow,
    Step,
    Steps,
    Terminate,
    Timeout,
)
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    name: Database = request.param
    return name


@pytest.fixture
def lab(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    server: PostgresServer | None = None
    if database == "postgresql":
        server = request.getfixturevalue("postgres")
    with ExitStack() as stack:
        yield stack.enter_context(laboratory(database, tmp_path, server))


def run(
    lab: Laboratory, database: Database, *bodies: Steps, faults: tuple[Fault, ...] = (),
    processes: tuple[int, ...] = (),
) -> Verdict:  # fmt: skip
    requests = tuple(
        Request(body, processes[number] if processes else 0) for number, body in enumerate(bodies)
    )
    return lab.run(Program(0, database, 2, requests, faults))


def transaction(*body: Step) -> Block:
    return Block("transaction", body)


def kinds(verdict: Verdict) -> list[str]:
    return [entry["kind"] for entry in verdict.entries]


def fates(verdict: Verdict) -> dict[str, str]:
    history = History(verdict.entries)
    return {
        token: history.fate(operation)[0]
        for operation in history.operations.values()
        for _, token, _ in operation.writes
    }


def test_a_program_is_executed_and_its_fates_are_known(lab: Laboratory, database: Database) -> None:
    verdict = run(
        lab,
        database,
        (
            transaction(Create("kept", 1), Attempt((transaction(Create("undone", 2), Raise()),))),
            Attempt((transaction(Create("lost", 3), Raise()),)),
            Increment(1),
        ),
        (Gather(((Create("one", 4),), (Create("other", 5),))),),
    )

    assert verdict.findings == []
    found = fates(verdict)
    assert {token for token, fate in found.items() if fate == "absent"} == {"undone", "lost"}
    assert {"kept", "one", "other", "1"} <= found.keys() - {"undone", "lost"}


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_request_is_cancelled_in_that_await(lab: Laboratory, database: Database, at: int) -> None:
    # On SQLite a statement is a single await.
    steps = (Slow(0.02), Create("late", 1), Create("later", 2))
    verdict = run(lab, database, steps, faults=(Cancel(0, 0, at),))

    ended = [entry for entry in verdict.entries if entry["kind"] == "task ended"]
    assert [entry["error"]["type"] for entry in ended] == ["CancelledError"]
    assert kinds(verdict).count("cancel") == 1


def test_a_timeout_is_written_down(lab: Laboratory, database: Database) -> None:
    verdict = run(lab, database, (Attempt((Timeout(0.01, (Slow(0.2),)),)),))
    assert "timeout" in kinds(verdict)


def test_rows_can_be_held_by_another_program(lab: Laboratory, database: Database) -> None:
    verdict = run(lab, database, (Create("a", 1), Create("b", 2)), faults=(Hold(1, 0.05),))
    assert "held" in kinds(verdict)
    assert verdict.findings == []


def test_two_processes_write_into_one_database(lab: Laboratory, database: Database) -> None:
    bodies = tuple((transaction(Create(f"row{n}", n), Increment(1)),) for n in (1, 2, 3))
    verdict = run(lab, database, *bodies, processes=(0, 1, 1))

    assert verdict.findings == []
    assert {"row1", "row2", "row3"} <= {t for t, fate in fates(verdict).items() if fate != "absent"}


@pytest.mark.parametrize("graceful", [False, True])
def test_a_process_is_ended_by_a_signal(
    lab: Laboratory, database: Database, graceful: bool
) -> None:
    verdict = run(
        lab,
        database,
        (Create("here", 1),),
        (transaction(Create("there", 2), Slow(0.2)), Create("never", 3)),
        faults=(Terminate(2, graceful),),
        processes=(0, 1),
    )

    assert "SIGTERM" in kinds(verdict)
    assert "never" not in fates(verdict)
    assert fates(verdict).get("there") != "acknowledged"
    assert verdict.findings == []


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
class TestOfTheServer:
    @pytest.mark.parametrize(("when", "is_stored"), [("before", False), ("after", True)])
    def test_the_connection_is_cut_at_a_commit(
        self, lab: Laboratory, database: Database, when: str, is_stored: bool
    ) -> None:
        cut = CutCommit(1, "before" if when == "before" else "after")
        verdict = run(lab, database, (transaction(Create("a", 1)),), faults=(cut,))

        assert "cut at a commit" in kinds(verdict)
        assert fates(verdict)["a"] == "unknown"
        assert ("a" in lab.look().values) is is_stored

    def test_a_backend_is_killed(self, lab: Laboratory, database: Database) -> None:
        verdict = run(lab, database, (Slow(0.5),), faults=(Kill(2, 0),))
        assert "killed" in kinds(verdict)

    @pytest.mark.parametrize("mode", ["stall", "refuse", "cut"])
    def test_the_network_is_disturbed(self, lab: Laboratory, database: Database, mode: str) -> None:
        modes = {"stall": Network("stall", 2, 0.05), "refuse": Network("refuse", 2, 0.05)}
        fault = modes.get(mode, Network("cut", 2))
        verdict = run(lab, database, (Slow(0.05), Create("afterwards", 1)), faults=(fault,))
        assert "network" in kinds(verdict)


def test_a_product_that_lies_is_found_out(
    lab: Laboratory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(self: ProductRunner, token: str, value: int) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(ProductRunner, "create", forget)
    symptoms = run(lab, database, (transaction(Create("a", 1)),)).symptoms
    assert symptoms == {
        "an acknowledged row is not stored",
        "a stranger's acknowledged row is not stored",
    }


def test_a_product_that_keeps_what_it_shall_not_is_found_out(
    lab: Laboratory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ProductRunner.create

    async def create_twice(self: ProductRunner, token: str, value: int) -> None:
        await create(self, f"{token} again", value)
        await create(self, token, value)

    monkeypatch.setattr(ProductRunner, "create", create_twice)
    symptoms = run(lab, database, (Create("a", 1),)).symptoms
    assert symptoms == {"a row has the value of another row"}


async def test_awaits_are_counted_and_errors_go_in_and_out() -> None:
    seen: list[str] = []

    async def work() -> str:
        await asyncio.sleep(0)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
        return "done"

    awaits: list[int] = []

    async def counting() -> str:
        return await counted(work(), lambda: awaits.append(len(awaits)))

    task = asyncio.create_task(counting())
    await wait_until_async(lambda: len(awaits) == 2, 1.0, message="it waits for the second time")
    task.cancel()

    assert await task == "done"
    assert (seen, len(awaits)) == (["cancelled"], 3)


@pytest.mark.postgres
async def test_the_statement_that_a_task_waits_for_is_known(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        work = connection.execute("SELECT pg_sleep(0.05)")

        async def counting() -> None:
            await counted(work, lambda: seen.append(statement_of(work)))

        seen: list[str | None] = []
        await counting()
        assert seen == ["SELECT"]
    finally:
        await connection.close()
