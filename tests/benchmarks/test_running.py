"""The benchmarks run; what they find is for their own tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.__main__ import main
from benchmarks.blocks import OURS as OUR_BLOCKS
from benchmarks.borrowers import DEFAULT, RUN
from benchmarks.bridges import EDGY, PLACES
from benchmarks.imports import PROGRAMS
from benchmarks.middleware import OURS
from benchmarks.scopes import STATEMENTS


@dataclass(frozen=True)
class Run:
    """A quick run of one benchmark."""

    printed: str
    complaints: str
    kept: Any


@pytest.fixture
def quick_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Run]:
    monkeypatch.setattr(record, "FOLDER", tmp_path)

    def run(benchmark: str) -> Run:
        main([benchmark, "--quick"])
        (kept,) = tmp_path.glob("*.json")
        return Run(*capfd.readouterr(), json.loads(kept.read_text()))

    return run


def assert_judged(targets: Any) -> None:
    assert {target["verdict"] for target in targets} <= {"met", "not met"}
    assert all(target["samples"] for target in targets)


@pytest.mark.server
def test_a_quick_run_prints_a_table_and_keeps_its_samples(quick_run: Callable[[str], Run]) -> None:
    run = quick_run("middleware")

    assert OURS in run.printed
    assert run.kept


@pytest.mark.slow
def test_a_quick_run_of_the_imports_starts_every_program(quick_run: Callable[[str], Run]) -> None:
    run = quick_run("imports")

    assert all(name in run.printed for name in PROGRAMS)
    (target,) = run.kept["facts"]["targets"]
    assert target["verdict"] in {"met", "not met"}


@pytest.mark.slow
@pytest.mark.postgres
def test_a_quick_run_of_the_pools_opens_what_it_should_and_judges_every_target(
    quick_run: Callable[[str], Run],
) -> None:
    run = quick_run("pools")

    assert RUN in run.printed
    facts = run.kept["facts"]
    fixed = [fact for fact in facts["connects"] if fact["contender"] != DEFAULT]
    assert {entry["connects"] for entry in fixed} == {facts["pool_size"]}
    assert {entry["verdict"] for entry in fixed} == {"met"}
    assert_judged(facts["targets"])
    assert len(run.kept["comparisons"]) == 7


@pytest.mark.slow
@pytest.mark.postgres
def test_a_quick_run_of_the_bridges_goes_to_every_place_and_judges_every_target(
    quick_run: Callable[[str], Run],
) -> None:
    run = quick_run("sync")

    assert "Where a peer is faster" in run.printed
    # The measuring processes end in good order: no warning, nothing destroyed while pending.
    assert run.complaints == ""
    titles = [entry["title"] for entry in run.kept["comparisons"]]
    for place in PLACES.values():
        for work in ("A no-op", "A query"):
            assert any(title.startswith(f"{work} {place.name}") for title in titles)
    assert_judged(run.kept["facts"]["targets"])
    # A thread that polls is seen to wake up, so that one which is not seen does not.
    assert all(min(counts[EDGY]) > 0 for counts in run.kept["facts"]["wakeups"].values())


@pytest.mark.slow
@pytest.mark.postgres
def test_a_quick_run_of_the_scopes_compares_every_block_and_judges_every_target(
    quick_run: Callable[[str], Run],
) -> None:
    run = quick_run("scopes")

    halves = 2 if run.kept["facts"]["server_on_one_core"] else 1
    comparisons = run.kept["comparisons"]
    assert len(comparisons) == halves * 4 * len(STATEMENTS)
    for comparison in comparisons:
        assert OUR_BLOCKS in {contender["name"] for contender in comparison["contenders"]}
    assert len(run.kept["facts"]["targets"]) == (3 if halves == 2 else 0)
    assert_judged(run.kept["facts"]["targets"])
    assert run.complaints == ""
