"""Count what has happened in a history, to know what the histories have tried."""

from __future__ import annotations

from collections import Counter

from tests.histories.fates import History, is_a
from tests.histories.laboratory import Verdict
from tests.histories.log import Entry
from tests.histories.steps import Database, walk

__all__ = ["count", "expected"]

_BOTH = (
    "cancel: while a block begins, before its first statement",
    "cancel: while a block ends, between statements",
    "cancel: while a verb waits for a connection or its turn",
    "cancel: during BEGIN",
    "cancel: during a statement",
    "cancel: during a fetch of a stream",
    "cancel: during SAVEPOINT",
    "cancel: during RELEASE",
    "cancel: during COMMIT",
    "cancel: during ROLLBACK",
    "cancel: outside of the database",
    "cancel: a second time",
    "timeout expired",
    "block: ended beside a task's statement or block",
    "block: ended beside another task's open inner block",
    "block: outcome unknown",
    "block: rolled back",
    "block: committed",
    "rows locked by another program",
    "commit by hand",
    "rollback by hand",
    "object used after its transaction was rolled back",
    "error: TransactionClosed",
    "error: TransactionAborted",
    "error: NestingError",
    "second process",
    "SIGTERM: told to stop",
    "SIGTERM: ended",
)
_POSTGRESQL = (
    "kill: an idle backend",
    "kill: a backend in a transaction",
    "kill: during a statement",
    "kill: while a task waits for COMMIT",
    "cut: before COMMIT",
    "cut: between COMMIT and its answer",
    "network: cut",
    "network: stall",
    "network: refuse",
    "conflict: serialization failure",
    "conflict: deadlock",
    "run_transaction() ran again",  # SQLite's waits for the lock at its beginning
    "error: ConnectionLost",
)


def expected(database: Database) -> tuple[str, ...]:
    """Return the kinds of events that a long run has to have met."""
    return (*_BOTH, *_POSTGRESQL) if database == "postgresql" else _BOTH


def count(verdict: Verdict) -> Counter[str]:
    """Return how often each kind of event has happened."""
    history = History(verdict.entries)
    found: Counter[str] = Counter()
    for entry in history.entries:
        found.update(_of_entry(entry))
        error = entry.get("error")
        for name in ("TransactionClosed", "TransactionAborted", "NestingError", "ConnectionLost"):
            if is_a(error, name) and entry["kind"] in ("failed", "left", "returned"):
                found[f"error: {name}"] += 1
        state = (error or {}).get("state")
        if state in ("40001", "40P01"):
            kind = "deadlock" if state == "40P01" else "serialization failure"
            found[f"conflict: {kind}"] += 1
    _count_blocks(history, found)
    if verdict.program.needs_worker:
        found["second process"] += 1
    for request in verdict.program.requests:
        found.update(f"step: {type(step).__name__}" for step in walk(request.body))
    return found


def _of_entry(entry: Entry) -> list[str]:
    match entry["kind"]:
        case "cancel":
            kinds = [f"cancel: {_place_of_cancellation(entry)}"]
            return [*kinds, "cancel: a second time"] if entry["again"] else kinds
        case "timeout":
            return ["timeout expired"]
        case "killed":
            kinds = [f"kill: {_place_of_kill(entry['what'])}"]
            statements = [statement for _, statement in entry["doing"]]
            return (
                [*kinds, "kill: while a task waits for COMMIT"] if "COMMIT" in statements else kinds
            )
        case "cut at a commit":
            before = entry["when"] == "before"
            return ["cut: before COMMIT" if before else "cut: between COMMIT and its answer"]
        case "network":
            return [f"network: {entry['mode']}"]
        case "held":
            return ["rows locked by another program"]
        case "by hand":
            return [f"{entry['what']} by hand"]
        case "SIGTERM":
            return ["SIGTERM: told to stop" if entry["graceful"] else "SIGTERM: ended"]
        case _:
            return []


def _place_of_cancellation(entry: Entry) -> str:
    statement, doing = entry["statement"], entry["doing"]
    if statement in ("BEGIN", "SAVEPOINT", "RELEASE", "COMMIT", "ROLLBACK"):
        return f"during {statement}"
    if doing == "fetch":
        return "during a fetch of a stream"
    if statement is not None:
        return "during a statement"
    if doing.startswith("begin "):
        return "while a block begins, before its first statement"
    if doing.startswith(("end ", "fail ")):
        return "while a block ends, between statements"
    if doing.startswith("in ") or not doing:
        return "outside of the database"
    return "while a verb waits for a connection or its turn"


def _place_of_kill(what: str) -> str:
    state, _, _ = what.partition(": ")
    if state.startswith("idle in transaction"):
        return "a backend in a transaction"
    if state == "idle":
        return "an idle backend"
    return "during a statement"


def _count_blocks(history: History, found: Counter[str]) -> None:
    attempts: Counter[int | None] = Counter()
    for block in history.blocks.values():
        outcome = {"acknowledged": "committed", "absent": "rolled back"}.get(block.outcome)
        found[f"block: {outcome or 'outcome unknown'}"] += 1
        if block.call is not None:
            attempts[block.call] += 1
        others = [
            other
            for other in history.operations.values()
            if other.block == block.number and other.task != block.task
        ]
        if any(other.began < block.body_ended < other.ended for other in others):
            found["block: ended beside a task's statement or block"] += 1
        inner = [
            other
            for other in history.blocks.values()
            if other.outer == block.number and other.task != block.task
        ]
        if any(other.entered < block.body_ended < other.left for other in inner):
            found["block: ended beside another task's open inner block"] += 1
    found["run_transaction() ran again"] += sum(times - 1 for times in attempts.values())
    _count_objects(history, found)


def _count_objects(history: History, found: Counter[str]) -> None:
    rolled_back: set[str] = set()
    for operation in history.operations.values():
        name = operation.details.get("object")
        if name is None:
            continue
        if name in rolled_back:
            found["object used after its transaction was rolled back"] += 1
        if operation.error is None and history.fate(operation)[0] == "absent":
            rolled_back.add(name)
