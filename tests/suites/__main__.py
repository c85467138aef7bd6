"""``python -m tests.suites``: run other projects' tests with our part in place, and compare."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.suites import differences, sources
from tests.suites.running import Outcomes, RunFailure, run
from tests.suites.suite import SUITES, Part, Suite
from tests.support.postgres import PostgresServer

__all__ = ["main"]


@dataclass(slots=True)
class _Report:
    """The findings of all suites that were run."""

    complaints: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """The suites that could not be compared."""
    found: dict[str, list[str]] = field(default_factory=dict)
    """The tests that differ, by suite."""
    seen: dict[str, set[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def main(words: Sequence[str] | None = None) -> int:
    """Run the suites that are named, or all, and return the exit status."""
    parser = ArgumentParser(prog="python -m tests.suites", description=__doc__)
    parser.add_argument("name", nargs="*", help="suites (default: all)")
    parser.add_argument("--part", choices=["fixed", "all"], default="all", help="default: all")
    parser.add_argument("--write", action="store_true", help="update the list of differences")
    parser.add_argument("--verbose", action="store_true", help="print every listed error, too")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.name if name not in SUITES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SUITES)}")
    suites = [SUITES[name] for name in arguments.name or SUITES]
    try:
        python = sources.interpreter()
        folders = {suite.name: sources.source_of(suite.project) for suite in suites}
    except sources.SourcesMissing as missing:
        print(missing)
        # A machine without a network has nothing to blame itself for; CI has to have one.
        return 1 if os.environ.get("CI") else 0
    listed = differences.read()
    report = _Report()
    with ExitStack() as stack:
        server = (
            stack.enter_context(PostgresServer())
            if any(suite.database == "postgresql" for suite in suites)
            else None
        )
        for suite in suites:
            _compare(suite, arguments.part, folders[suite.name], python, server, listed, report)
    if arguments.write:
        listed = differences.update(listed, report.found, report.seen)
        differences.write(listed)
        print(f"\n{differences.FILE.name} is written")
    return _conclude(report, listed, written=arguments.write, verbose=arguments.verbose)


def _compare(
    suite: Suite,
    part: Part,
    source: Path,
    python: Path,
    server: PostgresServer | None,
    listed: Sequence[differences.Difference],
    report: _Report,
) -> None:
    try:
        both: list[Outcomes] = []
        for ours in (False, True):
            both.append(run(suite, part, source, python, ours=ours, server=server))
            print(f"{suite.name}, {'ours' if ours else 'plain'}: {both[-1]}", flush=True)
    except RunFailure as failure:
        report.failures.append(f"{suite.name} could not be compared")
        print(failure, flush=True)
        return
    plain, ours_run = both
    complaints = [*differences.judge(suite.name, plain, ours_run, listed)]
    if part == "all":
        complaints += differences.find_lost(suite.name, plain, listed)
    report.complaints += [f"{suite.name}: {complaint}" for complaint in complaints]
    report.found[suite.name] = differences.compare(plain, ours_run)
    report.seen[suite.name] = {*plain.by_test, *ours_run.by_test}
    if part == "all":
        report.seen[suite.name] |= {entry.test for entry in listed if entry.suite == suite.name}
    report.errors |= {f"{suite.name}: {test}": text for test, text in ours_run.errors.items()}


def _conclude(
    report: _Report,
    listed: Sequence[differences.Difference],
    *,
    written: bool,
    verbose: bool,
) -> int:
    if verbose:
        for suite, tests in report.found.items():
            for test in tests:
                error = report.errors.get(f"{suite}: {test}", "gone")
                print(f"{suite}: {test}: {error}")
    complaints = [*report.failures, *([] if written else report.complaints)]
    complaints += [
        f"{entry.suite}: {entry.test} has no reason"
        for entry in listed
        if entry.reason == differences.UNKNOWN
    ]
    print(f"\n{sum(map(len, report.found.values()))} tests differ")
    for complaint in complaints:
        print(f"  {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
