"""The list of differences: what is compared, complained about, read and written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suites.differences import (
    FILE,
    UNKNOWN,
    Difference,
    compare,
    find_lost,
    judge,
    read,
    update,
    write,
)
from tests.suites.runner import Outcomes
from tests.suites.suite import SUITES

PLAIN = Outcomes({"a": "passed", "b": "passed", "c": "failed", "d": "skipped"})


def test_a_difference_is_a_test_that_passes_without_our_part_only() -> None:
    ours = Outcomes({"a": "passed", "b": "failed", "c": "failed", "d": "failed"})

    assert compare(PLAIN, ours) == ["b"]


@pytest.mark.parametrize("outcome", ["failed", "skipped", None])
def test_a_test_that_is_not_run_any_more_differs_too(outcome: str | None) -> None:
    others = {"a": "passed"} if outcome is None else {"a": "passed", "b": outcome}

    assert compare(PLAIN, Outcomes(others)) == ["b"]


def test_a_difference_that_is_not_listed_is_complained_about_with_its_error() -> None:
    ours = Outcomes({"a": "passed", "b": "failed"}, {"b": "ValueError: no"})

    (complaint,) = judge("suite", PLAIN, ours, [Difference("another suite", "b", "because")])

    assert complaint == "b differs and is not listed: ValueError: no"
    assert not judge("suite", PLAIN, ours, [Difference("suite", "b", "because")])


@pytest.mark.parametrize("test", ["a", "c", "d"])
def test_a_listed_test_that_does_not_differ_is_complained_about(test: str) -> None:
    listed = [Difference("suite", test, "because")]

    (complaint,) = judge("suite", PLAIN, PLAIN, listed)

    assert complaint.startswith(f"{test} is listed and does not differ")


def test_a_listed_test_that_a_part_leaves_out_is_lost_in_the_whole_only() -> None:
    listed = [Difference("suite", "z", "because"), Difference("another suite", "y", "because")]

    assert not judge("suite", PLAIN, PLAIN, listed)
    assert find_lost("suite", PLAIN, listed) == ["z is listed and is none of the tests"]


def test_an_update_keeps_reasons_and_asks_for_new_ones() -> None:
    listed = [
        Difference("suite", "a", "mended"),
        Difference("suite", "b", "by design"),
        Difference("suite", "not seen", "of another part"),
        Difference("another suite", "a", "not run"),
    ]

    entries = update(listed, {"suite": ["b", "c"]}, {"suite": ["a", "b", "c"]})

    assert set(entries) == {
        Difference("suite", "b", "by design"),
        Difference("suite", "c", UNKNOWN),
        Difference("suite", "not seen", "of another part"),
        Difference("another suite", "a", "not run"),
    }


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "differences.toml"
    entries = [
        Difference("one", 'test.py::test_it["é\\n"-\t]', 'He said: "no".'),
        Difference("one", "test.py::test_other", UNKNOWN),
        Difference("two", "test.py::test_other", "Because."),
    ]

    write(entries, file)

    assert sorted(read(file), key=repr) == sorted(entries, key=repr)


def test_an_entry_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "differences.toml"
    write([Difference("one", "test", "Because."), Difference("one", "test", "Or so.")], file)

    with pytest.raises(ValueError, match="twice"):
        read(file)


def test_the_list_names_suites_that_exist_and_gives_every_reason() -> None:
    entries = read()

    assert {entry.suite for entry in entries} <= SUITES.keys()
    assert not [entry for entry in entries if entry.reason == UNKNOWN]
    assert all(entry.reason.endswith(".") for entry in entries)


def test_writing_the_list_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "differences.toml"
    write(read(), file)

    assert file.read_text() == FILE.read_text()
