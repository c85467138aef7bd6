"""``python -m tests.suites``: run other projects' tests with our part in place, and compare."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.suites import differences, outcome_store, sources
from tests.suites.runner import Outcomes, RunFailure, run
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
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="run ours only, and compare it with the last plain run of these versions",
    )
    parser.add_argument("--verbose", action="store_true", help="print every listed error, too")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.name if name not in SUITES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SUITES)}")
    suites = [SUITES[name] for name in arguments.name or SUITES]
    suites = [suite for suite in suites if suite.paths_of(arguments.part)]
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
            plan = _Plan(suite, arguments.part, folders[suite.name], python, server)
            _compare(plan, listed, report, reuse=arguments.reuse)
    if arguments.write:
        listed = differences.update(listed, report.found, report.seen)
        differences.write(listed)
        print(f"\n{differences.FILE.name} is written")
    return _conclude(report, listed, written=arguments.write, verbose=arguments.verbose)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A suite, and everything that its two runs need."""

    suite: Suite
    part: Part
    source: Path
    python: Path
    server: PostgresServer | None

    def run(self, *, ours: bool) -> Outcomes:
        outcomes = run(
            self.suite, self.part, self.source, self.python, ours=ours, server=self.server
        )
        print(f"{self.suite.name}, {'ours' if ours else 'plain'}: {outcomes}", flush=True)
        return outcomes

    def run_plain(self, *, reuse: bool) -> Outcomes:
        outcomes = outcome_store.load(self.suite, self.part) if reuse else None
        if outcomes is None:
            outcomes = self.run(ours=False)
            outcome_store.store(self.suite, self.part, outcomes)
        return outcomes


def _compare(
    plan: _Plan, listed: Sequence[differences.Difference], report: _Report, *, reuse: bool
) -> None:
    name = plan.suite.name
    try:
        plain = plan.run_plain(reuse=reuse)
        ours = plan.run(ours=True)
    except RunFailure as failure:
        report.failures.append(f"{name} could not be compared")
        print(failure, flush=True)
        return
    complaints = [*differences.judge(name, plain, ours, listed)]
    report.seen[name] = {*plain.by_test, *ours.by_test}
    if plan.part == "all":
        complaints += differences.find_lost(name, plain, listed)
        report.seen[name] |= {entry.test for entry in listed if entry.suite == name}
    report.complaints += [f"{name}: {complaint}" for complaint in complaints]
    report.found[name] = differences.compare(plain, ours)
    report.errors |= {f"{name}: {test}": text for test, text in ours.errors.items()}


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
