"""Runs of a test suite in a process of its own, and their outcomes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.suites.suite import Part, Suite
from tests.support.postgres import PostgresServer

__all__ = ["Outcomes", "RunFailure", "run"]

_PLUGINS: Final = Path(__file__).parent / "plugins"
_LIMIT: Final = 1200.0
"""Seconds for one run; single tests have limits of their own."""
_SCHEMAS: Final = ("test_schema", "test_schema_2")
"""Schemas that SQLAlchemy's tests expect to exist."""


class RunFailure(Exception):
    """A run that did not end well, or that says nothing about our part."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome of each test of a run: ``passed``, ``failed`` or ``skipped``."""

    by_test: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)
    """The first line of each failure."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Facts that the plugin has counted."""
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = Counter(self.by_test.values())
        return ", ".join(
            [
                *(f"{count} {name}" for name, count in sorted(counts.items())),
                f"{self.seconds:.0f} s",
            ]
        )


def run(
    suite: Suite,
    part: Part,
    source: Path,
    interpreter: Path,
    *,
    ours: bool,
    server: PostgresServer | None = None,
) -> Outcomes:
    """Run the tests in ``source``, with our part in place or as they are."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="suites-")))
        report = folder / "outcomes.json"
        command = [
            *(str(interpreter), *suite.interpreter_options, "-m", "pytest"),
            *("-p", "recorder", "-p", suite.plugin, "-p", "no:asgi_dbconn"),
            *("-p", "no:cacheprovider", "-q", "--tb", "short", *suite.options),
        ]
        if suite.database is not None:
            command += ["--dburi", _database(suite, stack, server)]
        # SQLAlchemy does not always remove its SQLite files.
        for left in source.glob("*.db*"):
            left.unlink()
        started = time.perf_counter()
        ended = _execute(
            [*command, *_paths(suite, part, source)], source, _environment(suite, report, ours=ours)
        )
        seconds = time.perf_counter() - started
        # 1: some tests failed, which is what the comparison is about.
        if ended.returncode not in (0, 1) or not report.exists():
            raise RunFailure(
                f"{suite.name} ended with status {ended.returncode}:\n{ended.stdout[-4000:]}"
            )
        contents = json.loads(report.read_text())
    outcomes = Outcomes(contents["outcomes"], contents["errors"], contents["notes"], seconds)
    if ours:
        _check_use(suite, outcomes)
    return outcomes


def _paths(suite: Suite, part: Part, source: Path) -> list[str]:
    """Return the files and folders of the part; a pattern stands for all that it matches."""
    found: list[str] = []
    for pattern in suite.paths_of(part):
        matches = sorted(str(path.relative_to(source)) for path in source.glob(pattern))
        if not matches:
            raise RunFailure(f"{suite.name}: {suite.project} has no {pattern} any more")
        found += matches
    return found


def _check_use(suite: Suite, outcomes: Outcomes) -> None:
    """Raise RunFailure if our part was not in place, or left something behind."""
    used = outcomes.notes.get(suite.proof, 0)
    count = used.get("ours", 0) if isinstance(used, Mapping) else used
    if not count:
        raise RunFailure(f"{suite.name} ran without our part: {outcomes.notes}")
    if outcomes.notes.get("main engine", "ours") != "ours":
        raise RunFailure(f"{suite.name} had a plain engine as its main one: {outcomes.notes}")
    if outcomes.notes.get("connected at the end"):
        raise RunFailure(f"{suite.name} left the database of its applications connected.")


def _execute(
    command: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_LIMIT,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace")
        raise RunFailure(f"A run has not ended after {_LIMIT:g} s:\n{said[-4000:]}") from late


def _environment(suite: Suite, report: Path, *, ours: bool) -> dict[str, str]:
    # A run of pytest that started this one says things in variables that are not for this one.
    variables = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "PYTHON"))
    }
    variables |= {"PYTHONPATH": str(_PLUGINS), "SUITES_OUTCOMES": str(report)}
    if ours:
        name, value = suite.variable
        variables[name] = value
    return variables


def _database(suite: Suite, stack: ExitStack, server: PostgresServer | None) -> str:
    """Return the URL of a new and empty database."""
    if suite.database == "sqlite":
        # In the folder where the tests run. SQLAlchemy derives further names from this one, by
        # splitting the whole path at underscores and dots.
        return "sqlite+aiosqlite:///suites.db"
    if server is None:
        raise RunFailure(f"{suite.name} wants a PostgreSQL server")
    url = stack.enter_context(server.database("suites"))
    for schema in _SCHEMAS:
        server.execute(f"CREATE SCHEMA {schema}", database=url.rpartition("/")[2])
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)
