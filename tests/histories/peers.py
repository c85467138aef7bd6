"""The histories that every object mapper can express, on ours and on others, side by side.

PostgreSQL only. Each peer runs in a process of its own, with its own environment, and is judged by
the same judge. Errors are not compared: every project documents its own.
"""

from __future__ import annotations

import base64
import json
import pickle
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import python
from tests.histories.errors import Finding
from tests.histories.generator import generate
from tests.histories.judge import Evidence, judge
from tests.histories.laboratory import laboratory
from tests.histories.steps import Program
from tests.histories.vocabulary import PORTABLE, Vocabulary
from tests.histories.witness import PostgreSQLWitness
from tests.support.postgres import PostgresServer

__all__ = ["report"]

_OURS: Final = "asgi-dbconn"
_ROOT: Final = Path(__file__).parents[2]
_ANSWER_WITHIN: Final = 30.0
"""Seconds after which a peer's process counts as hung."""
_MODULES: Final[Mapping[str, str]] = {
    "SQLAlchemy": "sqlalchemy_sessions",
    "Tortoise": "tortoise_orm",
    "Piccolo": "piccolo_orm",
    "Edgy": "edgy_orm",
}
_WITHOUT_TASKS: Final = frozenset({"SQLAlchemy", "Edgy"})
"""Peers whose transactions are for one task: a session is not to be shared, or not inherited."""
_COLUMNS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("acknowledged lost", (
        "an acknowledged row is not stored", "a stranger's acknowledged row is not stored",
        "an acknowledged change is lost", "an increment is lost")),
    ("rolled back, stored", (
        "what was rolled back is stored", "a rolled-back increment is stored")),
    ("half a block", ("a part of a block is stored",)),
    ("left in transaction", (
        "a backend is left inside of a transaction",
        "another program cannot write within a second")),
    ("wrong end of a cancelled task", (
        "a cancelled task ended", "a cancellation is swallowed", "an error on its way")),
    ("block's error replaced", ("a block ended with", "a block swallowed")),
    ("strangers refused", ("strangers cannot write any more",)),
    ("hung", ("a task hangs",)),
)  # fmt: skip


@dataclass
class _Score:
    """Findings of one object mapper, by the columns of the table."""

    histories: int = 0
    failed: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def add(self, findings: list[Finding]) -> None:
        columns = [
            column
            for finding in findings
            for column, symptoms in _COLUMNS
            if finding.symptom.startswith(symptoms)
        ]
        self.histories += 1
        self.failed += bool(columns)
        self.found.update(columns)


def report(seconds: float, seed: int) -> str:
    """Run both kinds of programs for that time, and return the tables."""
    tables = []
    for with_tasks in (False, True):
        vocabulary = PORTABLE if with_tasks else PORTABLE.with_tasks_outside_of_blocks()
        names = [name for name in _MODULES if not (with_tasks and name in _WITHOUT_TASKS)]
        scores = _compare(names, vocabulary, seconds / 2, seed)
        kind = "tasks inside of transactions" if with_tasks else "one task in each transaction"
        tables.append(f"PostgreSQL, {kind}\n\n{_table(scores)}")
    return "\n\n".join(tables)


def _compare(
    names: list[str], vocabulary: Vocabulary, seconds: float, seed: int
) -> dict[str, _Score]:
    scores = {name: _Score() for name in (_OURS, *names)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(PostgresServer())
        ours = stack.enter_context(laboratory("postgresql", folder, server))
        peers = [_Peer(name, stack.enter_context(_database(server))) for name in names]
        for peer in peers:
            stack.callback(peer.close)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            program = generate(seed, "postgresql", vocabulary)
            scores[_OURS].add(ours.run(program).findings)
            for peer in peers:
                scores[peer.name].add(peer.run(program))
            seed += 1
    return scores


@contextmanager
def _database(server: PostgresServer) -> Iterator[str]:
    with server.database("peers") as url:
        yield url


class _Peer:
    """The process of one peer, and a database for it alone."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._witness = PostgreSQLWitness(url)
        self._witness.prepare()
        interpreter = sys.executable if name == "SQLAlchemy" else str(python(name.lower()))
        self._start = partial(
            subprocess.Popen[str],
            [interpreter, "-m", f"tests.histories.peer_programs.{_MODULES[name]}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT, bufsize=1,
        )  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def run(self, program: Program) -> list[Finding]:
        """Return what the judge found."""
        self._witness.reset()
        order = {"program": base64.b64encode(pickle.dumps(program)).decode(), "url": self._url}
        entries = self._ask(order)
        evidence = Evidence(open_transactions=self._witness.wait_for_quiet(2.0))
        evidence.can_write = self._witness.can_write()
        evidence.before_saving = evidence.at_the_end = self._witness.look()
        if entries is not None:
            self._ask({"go on": True})
            evidence.can_write_after_disconnect = self._witness.can_write()
        if entries is None:
            return [Finding("a task hangs", "the process gave no answer")]
        return judge(program, entries, evidence)

    def _ask(self, order: dict[str, Any]) -> Any:
        if self._process is None:
            self._process = self._start()
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process of a peer has no pipes")
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _ANSWER_WITHIN)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        if ready and process.wait() != 0:
            raise RuntimeError(f"the process of {self.name} failed; see the standard error")
        process.kill()
        process.communicate()
        self._process = None
        return None

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
        self._witness.close()


def _table(scores: dict[str, _Score]) -> str:
    heads = ["", "histories", "with a fault", *(column for column, _ in _COLUMNS)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for name, score in scores.items():
        cells = [name, str(score.histories), str(score.failed)]
        cells += [str(score.found[column]) for column, _ in _COLUMNS]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)
