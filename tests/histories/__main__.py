"""``python -m tests.histories``: run histories for as long as one likes."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, get_args

from tests.histories import events
from tests.histories.generator import generate
from tests.histories.laboratory import Laboratory, Verdict, laboratory
from tests.histories.listing import listing
from tests.histories.shrinker import shrink, size
from tests.histories.steps import Database, Program
from tests.histories.vocabulary import EVERYTHING

__all__ = ["main"]

_BETWEEN_REPORTS: Final = 30.0
_DATABASES: Final[tuple[Database, ...]] = get_args(Database)


@dataclass
class _Tally:
    """Everything that was seen on one database."""

    histories: int = 0
    failed: int = 0
    seconds: float = 0.0
    first: dict[str, int] = field(default_factory=dict)
    """Seeds by the symptom that they showed first."""
    symptoms: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)


def main(arguments: list[str] | None = None) -> int:
    """Return 1 if a history broke a promise."""
    options = _parser().parse_args(arguments)
    logging.getLogger("asgi_dbconn").setLevel(logging.CRITICAL)
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
    if options.peers:
        from tests.histories.peers import report

        print(report(options.seconds, options.seed))
        return 0
    databases = _DATABASES if options.database == "both" else (options.database,)
    tallies: dict[Database, _Tally] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for database in databases:
            place = Path(folder) / database
            place.mkdir()
            lab = stack.enter_context(laboratory(database, place))
            tallies[database] = _run(lab, database, options, options.seconds / len(databases))
    for database, tally in tallies.items():
        _report(database, tally)
    return int(any(tally.failed for tally in tallies.values()))


def _run(
    lab: Laboratory, database: Database, options: argparse.Namespace, seconds: float
) -> _Tally:
    tally = _Tally()
    began = time.monotonic()
    reported = began
    seed = options.seed
    vocabulary = EVERYTHING.without(options.without)
    while time.monotonic() < began + seconds and tally.histories < options.histories:
        verdict = lab.run(generate(seed, database, vocabulary))
        tally.histories += 1
        tally.events += events.count(verdict)
        if verdict.findings:
            _record(options.findings, verdict)
            tally.failed += 1
            tally.symptoms.update(verdict.symptoms)
            for symptom in sorted(verdict.symptoms - tally.first.keys()):
                tally.first[symptom] = seed
                _show(lab, verdict, symptom, options.shrink)
        seed += 1
        if time.monotonic() > reported + _BETWEEN_REPORTS:
            reported = time.monotonic()
            print(f"{database}: {tally.histories} histories, {tally.failed} failed", flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def _record(file: Path | None, verdict: Verdict) -> None:
    if file is None:
        return
    program = verdict.program
    with file.open("a") as lines:
        for finding in verdict.findings:
            record = {"database": program.database, "seed": program.seed, **asdict(finding)}
            lines.write(json.dumps(record) + "\n")


def _show(lab: Laboratory, verdict: Verdict, symptom: str, seconds: float) -> None:
    program = verdict.program
    detail = next(finding.detail for finding in verdict.findings if finding.symptom == symptom)
    print(f"\n=== {program.database}, seed {program.seed}: {symptom}\n    {detail}", flush=True)
    if not seconds:
        return

    def fails(candidate: Program) -> bool:
        return symptom in lab.run(candidate).symptoms

    small = shrink(program, fails, seconds)
    print(f"shrunk from {size(program)} to {size(small)} steps and faults:\n")
    print(listing(small), flush=True)


def _report(database: Database, tally: _Tally) -> None:
    each = tally.seconds / max(1, tally.histories)
    print(
        f"\n{database}: {tally.histories} histories in {tally.seconds:.0f} s "
        f"({each * 1000:.0f} ms each, shrinking included), {tally.failed} failed"
    )
    for symptom, times in tally.symptoms.most_common():
        print(f"  {times:6}  {symptom} (first: seed {tally.first[symptom]})")
    print("  events:")
    for event in events.expected(database):
        print(f"  {tally.events[event]:8}  {event}")
    for event in sorted(tally.events.keys() - set(events.expected(database))):
        print(f"  {tally.events[event]:8}  ({event})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long to go on, all databases together")
    add("--histories", type=int, default=sys.maxsize, help="at most so many on each database")
    add("--database", choices=("both", *_DATABASES), default="both")
    add("--seed", "--seed-from", type=int, default=0, help="the first seed")
    add("--shrink", type=float, default=20.0, help="seconds to shrink each new symptom; 0: never")
    add("--without", nargs="*", default=[], help="kinds of steps and faults to leave out")
    add("--findings", type=Path, help="a file to write every finding to, as lines of JSON")
    add("--peers", action="store_true", help="run other object mappers instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
