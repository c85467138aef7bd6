"""A suite of two tests, run in processes as the suites of other projects are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.suites import __main__ as program
from tests.suites import differences, outcome_store, sources
from tests.suites.differences import Difference, read, write
from tests.suites.runner import RunFailure, run
from tests.suites.suite import Suite

TESTS = """
import os
import pytest

part = os.environ.get("PART")

@pytest.fixture(scope="session", autouse=True)
def counted(request):
    request.config.pluginmanager.get_plugin("recorder").notes["uses"] = int(bool(part))

@pytest.mark.parametrize("number", [1, 2])
def test_it(number):
    assert part != "breaks" or number == 1

class TestNames_postgresql_asyncpg:
    def test_name(self):
        pass

@pytest.fixture
def fragile():
    yield
    assert not part

def test_end(fragile):
    pass

@pytest.mark.skip
def test_nothing():
    pass
"""
NAME = "test_small.py::test_it[2]"
ALL_DIFFERENCES = [NAME, "test_small.py::test_end"]


def make_suite(value: str) -> Suite:
    return Suite(
        "small",
        "small",
        ["test_small.py"],
        ("PART", value),
        proof="uses",
        plugin="skipping",
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "test_small.py").write_text(TESTS)
    return tmp_path


def run_small(source: Path, value: str = "breaks", *, ours: bool) -> dict[str, str]:
    outcomes = run(make_suite(value), "all", source, Path(sys.executable), ours=ours)
    return dict(outcomes.by_test)


def test_outcomes_are_of_every_phase_of_every_test(source: Path) -> None:
    plain, ours = run_small(source, ours=False), run_small(source, ours=True)

    assert plain == {
        "test_small.py::test_it[1]": "passed",
        NAME: "passed",
        "test_small.py::TestNames_postgresql_asyncpg::test_name": "passed",
        "test_small.py::test_end": "passed",
        "test_small.py::test_nothing": "skipped",
    }
    assert ours == plain | dict.fromkeys(ALL_DIFFERENCES, "failed")


def test_a_run_in_which_our_part_was_not_used_is_refused(source: Path) -> None:
    with pytest.raises(RunFailure, match="without our part"):
        run_small(source, "", ours=True)


def test_a_run_that_cannot_collect_is_refused(source: Path) -> None:
    (source / "test_small.py").write_text("import nothing_of_this_name")

    with pytest.raises(RunFailure, match="nothing_of_this_name"):
        run_small(source, ours=False)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path) -> Path:
    """The program, with the small suite as the only one and a list of its own."""
    file = tmp_path / "differences.toml"
    monkeypatch.setattr(program, "SUITES", {"small": make_suite("breaks")})
    monkeypatch.setattr(sources, "interpreter", lambda: Path(sys.executable))
    monkeypatch.setattr(sources, "source_of", lambda _: source)
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "folder")
    monkeypatch.setattr(outcome_store, "version", lambda _: "1")
    monkeypatch.setattr(differences, "FILE", file)
    write([Difference("small", test, "Because.") for test in ALL_DIFFERENCES], file)
    return file


def test_the_program_is_content_with_a_list_that_says_what_differs(listed: Path) -> None:
    assert program.main([]) == 0


def test_the_program_fails_for_a_test_that_is_missing_in_the_list(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write([Difference("small", ALL_DIFFERENCES[1], "Because.")], listed)

    assert program.main([]) == 1
    assert f"{NAME} differs and is not listed" in capsys.readouterr().out


def test_the_program_fails_for_a_listed_test_that_passes(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write([*read(listed), Difference("small", "test_small.py::test_it[1]", "Because.")], listed)

    assert program.main([]) == 1
    assert "test_it[1] is listed and does not differ" in capsys.readouterr().out


def test_a_list_that_is_written_fails_until_it_has_reasons(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write([Difference("small", "test_small.py::test_it[1]", "Because.")], listed)

    assert program.main(["--write"]) == 1
    assert f"{NAME} has no reason" in capsys.readouterr().out
    assert {entry.test for entry in read(listed)} == set(ALL_DIFFERENCES)

    write([Difference("small", test, "Because.") for test in ALL_DIFFERENCES], listed)
    assert program.main([]) == 0


@pytest.mark.parametrize(("variable", "status"), [("", 0), ("true", 1)])
def test_without_a_network_it_is_left_out_but_not_in_ci(
    listed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    status: int,
) -> None:
    def fail(_: str) -> Path:
        raise sources.SourcesMissing("The source distribution of small==1 cannot be downloaded")

    monkeypatch.setattr(sources, "source_of", fail)
    monkeypatch.setenv("CI", variable)

    assert program.main([]) == status
    assert "cannot be downloaded" in capsys.readouterr().out


def test_a_plain_run_is_used_again_on_demand(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for words in ([], ["--reuse"], []):
        assert program.main(words) == 0
        outputs.append(capsys.readouterr().out)

    assert ["small, plain:" in output for output in outputs] == [True, False, True]
    assert all("2 tests differ" in output for output in outputs)
