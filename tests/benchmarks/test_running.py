"""The benchmarks run; what they find is for their own tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.__main__ import main
from benchmarks.borrowers import DEFAULT, RUN
from benchmarks.bridges import EDGY, PLACES
from benchmarks.imports import PROGRAMS
from benchmarks.middleware import OURS


def _kept(folder: Path) -> Any:
    (kept,) = folder.glob("*.json")
    return json.loads(kept.read_text())


@pytest.mark.server
def test_a_quick_run_prints_a_table_and_keeps_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path)

    main(["middleware", "--quick"])

    assert OURS in capsys.readouterr().out
    assert _kept(tmp_path)


@pytest.mark.slow
def test_a_quick_run_of_the_imports_starts_every_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path)

    main(["imports", "--quick"])

    printed = capsys.readouterr().out
    assert all(name in printed for name in PROGRAMS)
    (target,) = _kept(tmp_path)["facts"]["targets"]
    assert target["verdict"] in {"met", "not met"}


@pytest.mark.slow
@pytest.mark.postgres
def test_a_quick_run_of_the_pools_opens_what_it_should_and_judges_every_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path)

    main(["pools", "--quick"])

    assert RUN in capsys.readouterr().out
    kept = _kept(tmp_path)
    facts = kept["facts"]
    fixed = [each for each in facts["connects"] if each["contender"] != DEFAULT]
    assert {each["connects"] for each in fixed} == {facts["pool_size"]}
    assert {each["verdict"] for each in fixed} == {"met"}
    assert {each["verdict"] for each in facts["targets"]} <= {"met", "not met"}
    assert all(each["samples"] for each in facts["targets"])
    assert len(kept["comparisons"]) == 7


@pytest.mark.slow
@pytest.mark.postgres
def test_a_quick_run_of_the_bridges_goes_to_every_place_and_judges_every_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path)

    main(["sync", "--quick"])

    printed, complaints = capfd.readouterr()
    assert "Where a peer is faster" in printed
    # The measuring processes end in good order: no warning, nothing destroyed while pending.
    assert complaints == ""
    kept = _kept(tmp_path)
    titles = [each["title"] for each in kept["comparisons"]]
    for place in PLACES.values():
        for work in ("A no-op", "A query"):
            assert any(title.startswith(f"{work} {place.name}") for title in titles)
    targets = kept["facts"]["targets"]
    assert {each["verdict"] for each in targets} <= {"met", "not met"}
    assert all(each["samples"] for each in targets)
    # A thread that polls is seen to wake up, so that one which is not seen does not.
    assert all(min(counts[EDGY]) > 0 for counts in kept["facts"]["wakeups"].values())
