"""The tests that fail with our part in place and pass without it, each with its reason."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.suites.runner import Outcomes

__all__ = [
    "FILE",
    "UNKNOWN",
    "Difference",
    "compare",
    "find_lost",
    "judge",
    "read",
    "update",
    "write",
]

FILE: Final = Path(__file__).parent / "differences.toml"
UNKNOWN: Final = "TODO"
"""The reason of a difference that nobody has looked at. The file is refused while it has one."""
_HEAD: Final = """\
# The tests of other projects that pass without our part and fail with it, each with its reason.
# `make suites` compares; `python -m tests.suites --write` proposes an update, in which new entries
# have the reason TODO. Comments below this one are not kept. `sometimes` is for tests that are a
# matter of the moment; they may pass.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One test of one suite, and the reason why it fails."""

    suite: str
    test: str
    reason: str
    sometimes: bool = False
    """Whether it is a matter of the moment, so that it may pass as well."""


def compare(plain: Outcomes, ours: Outcomes) -> list[str]:
    """Return the tests that pass in the plain run and not in ours.

    A test that is gone counts, too: what fails before a test is called keeps it from being run.
    """
    passed = [test for test, outcome in plain.by_test.items() if outcome == "passed"]
    return [test for test in passed if ours.by_test.get(test) != "passed"]


def judge(
    suite: str, plain: Outcomes, ours: Outcomes, listed: Iterable[Difference]
) -> Sequence[str]:
    """Return one complaint for each difference that is not listed, or listed and none."""
    known = {entry.test: entry for entry in listed if entry.suite == suite}
    found = compare(plain, ours)
    complaints = [
        f"{test} differs and is not listed: {ours.errors.get(test, ours.by_test.get(test, 'gone'))}"
        for test in found
        if test not in known
    ]
    # A part of a suite says nothing about the tests that it leaves out.
    present = known.keys() & (plain.by_test.keys() | ours.by_test.keys())
    always = {test for test in present if not known[test].sometimes}
    complaints += [
        f"{test} is listed and does not differ: {plain.by_test.get(test, 'gone')} without our "
        f"part, {ours.by_test.get(test, 'gone')} with it"
        for test in sorted(always - set(found))
    ]
    return complaints


def find_lost(suite: str, plain: Outcomes, listed: Iterable[Difference]) -> Sequence[str]:
    """Return one complaint for each listed test that the whole suite does not have."""
    return [
        f"{entry.test} is listed and is none of the tests"
        for entry in listed
        if entry.suite == suite and entry.test not in plain.by_test
    ]


def read(file: Path | None = None) -> list[Difference]:
    """Return the entries of the file. Raises ValueError if one of them stands there twice."""
    file = file or FILE
    groups = tomllib.loads(file.read_text()).get("difference", [])
    entries = [
        Difference(group["suite"], test, group["reason"].strip(), group.get("sometimes", False))
        for group in groups
        for test in group["tests"]
    ]
    names = [(entry.suite, entry.test) for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{file.name} has entries twice: {twice}")
    return entries


def update(
    listed: Iterable[Difference],
    found: Mapping[str, Sequence[str]],
    seen: Mapping[str, Iterable[str]],
) -> list[Difference]:
    """Return the entries as ``found`` says, with the reasons that were there.

    Entries stay if their test was not seen, because it belongs to another suite or part, or if it
    differs only sometimes: those are for people to remove.
    """
    kept = {
        (entry.suite, entry.test): entry
        for entry in listed
        if entry.sometimes or entry.test not in set(seen.get(entry.suite, ()))
    }
    known = {(entry.suite, entry.test): entry for entry in listed}
    differing = {
        (suite, test): known.get((suite, test), Difference(suite, test, UNKNOWN))
        for suite, tests in found.items()
        for test in tests
    }
    return list((kept | differing).values())


def write(entries: Iterable[Difference], file: Path | None = None) -> None:
    """Write the entries, those of a suite with the same reason together."""
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for entry in entries:
        groups.setdefault((entry.suite, entry.reason, entry.sometimes), []).append(entry.test)
    blocks = [_HEAD]
    for (suite, reason, sometimes), tests in sorted(groups.items()):
        lines = "".join(f"    {_quoted(test)},\n" for test in sorted(tests))
        blocks.append(
            f"[[difference]]\nsuite = {_quoted(suite)}\nreason = {_quoted(reason)}\n"
            + ("sometimes = true\n" if sometimes else "")
            + f"tests = [\n{lines}]\n"
        )
    (file or FILE).write_text("\n".join(blocks))


def _quoted(text: str) -> str:
    # JSON's strings are basic strings of TOML.
    return json.dumps(text, ensure_ascii=False)
