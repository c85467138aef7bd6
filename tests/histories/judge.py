"""The judge: everything that a history must not have done.

It knows the program, the log, and what the witness saw. It never asks the code under test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.histories import errors
from tests.histories.errors import Finding
from tests.histories.fates import NEVER, BlockRun, Fate, History, Operation, is_a
from tests.histories.log import Entry, ErrorRecord
from tests.histories.steps import Program
from tests.histories.vocabulary import BASE_TOKENS, COUNTERS
from tests.histories.witness import Snapshot

__all__ = ["Evidence", "judge"]

_FINAL: Final = "final save"


@dataclass
class Evidence:
    """What the witness saw after the program."""

    before_saving: Snapshot = field(default_factory=Snapshot)
    """When the program had ended, and strangers had written."""
    at_the_end: Snapshot = field(default_factory=Snapshot)
    """When each object had been saved once more."""
    open_transactions: list[str] = field(default_factory=list)
    can_write: bool = True
    can_write_after_disconnect: bool = True


@dataclass(frozen=True)
class _Write:
    """One write of one row, with the time in which it took effect."""

    operation: Operation
    value: int | None
    """None for a row that was deleted, or not there from the beginning."""
    fate: Fate
    unit: object
    began: float
    settled: float


def judge(program: Program, entries: list[Entry], evidence: Evidence) -> list[Finding]:
    """Return every broken promise of the history."""
    return list(_Judge(program, History(entries), evidence).findings())


class _Judge:
    def __init__(self, program: Program, history: History, evidence: Evidence) -> None:
        self._program = program
        self._history = history
        self._evidence = evidence
        self._writes: dict[str, list[_Write]] = defaultdict(list)
        self._additions: dict[int, list[_Write]] = defaultdict(list)
        for operation in history.operations.values():
            fate, unit, settled = history.fate(operation)
            for kind, token, value in operation.writes:
                write = _Write(operation, value, fate, unit, operation.began, settled)
                if kind == "add":
                    self._additions[int(token)].append(write)
                else:
                    self._writes[token].append(write)

    def findings(self) -> Iterator[Finding]:
        yield from self._rows()
        yield from self._units()
        yield from self._counters()
        yield from self._objects()
        yield from self._callbacks()
        yield from self._connections()
        yield from self._tasks()
        yield from self._blocks()
        yield from errors.objections(self._program, self._history, self._has_row)

    # -- rows

    def _rows(self) -> Iterator[Finding]:
        seen = self._evidence.at_the_end.values
        for token in {*self._writes, *BASE_TOKENS, *seen}:
            finding = self._row(token, seen.get(token), self._writes.get(token, []))
            if finding is not None:
                yield finding

    def _row(self, token: str, value: int | None, writes: list[_Write]) -> Finding | None:
        first = 0 if token in BASE_TOKENS else None
        same = [write for write in writes if write.value == value]
        possible = [write for write in same if write.fate != "absent"]
        acknowledged = [write for write in writes if write.fate == "acknowledged"]
        if value == first and not acknowledged:
            return None
        for write in possible:
            end = write.settled if write.fate == "acknowledged" else NEVER
            if not any(other.began > end for other in acknowledged):
                return None
        if acknowledged and all(write.operation.name == _FINAL for write in acknowledged):
            return None  # said of the object
        what = "no row" if value is None else f"value {value}"
        told = (
            ", ".join(f"{write.operation.name} of {write.value} {write.fate}" for write in writes)
            or "nobody wrote it"
        )
        detail = f"{token} has {what}; {told}"
        strangers = any(write.operation.name.startswith("stranger") for write in acknowledged)
        if token not in BASE_TOKENS and value is None:
            who = "a stranger's acknowledged row" if strangers else "an acknowledged row"
            return Finding(f"{who} is not stored", detail)
        if same and not possible:
            return Finding("what was rolled back is stored", detail)
        if not same and value not in (first, None):
            return Finding("a row has the value of another row", detail)
        return Finding("an acknowledged change is lost", detail)

    def _units(self) -> Iterator[Finding]:
        """All or nothing, also of what is unknown."""
        seen = self._evidence.before_saving.values
        units: dict[object, dict[str, bool]] = defaultdict(dict)
        for token, writes in self._writes.items():
            creations = [write for write in writes if write.fate != "absent"]
            if token in BASE_TOKENS or len(creations) != 1 or creations[0].fate != "unknown":
                continue
            if creations[0].operation.name != _FINAL:
                units[creations[0].unit][token] = token in seen
        for unit, tokens in units.items():
            if len(set(tokens.values())) > 1:
                yield Finding("a part of a block is stored", f"{unit}: {tokens}")

    def _counters(self) -> Iterator[Finding]:
        for counter in COUNTERS:
            additions = self._additions.get(counter, [])
            least = sum(write.fate == "acknowledged" for write in additions)
            most = least + sum(write.fate == "unknown" for write in additions)
            total = self._evidence.at_the_end.totals.get(counter, 0)
            if total < least:
                yield Finding("an increment is lost", f"{total} of {least} acknowledged")
            elif total > most:
                yield Finding("a rolled-back increment is stored", f"{total} of at most {most}")

    def _has_row(self, token: str, apart_from: Operation) -> bool:
        """Return whether a row may have been there for another reason than the operation."""
        return token in BASE_TOKENS or any(
            write.value is not None and write.fate != "absent"
            for write in self._writes.get(token, [])
            if write.operation is not apart_from
        )

    # -- objects

    def _objects(self) -> Iterator[Finding]:
        before, after = self._evidence.before_saving, self._evidence.at_the_end
        for entry in self._history.of_kind("object"):
            if entry["is_unknown"]:
                continue  # loaded in a transaction that was rolled back: it vouches for nothing
            token, value = entry["token"], entry["value"]
            writes = self._writes.get(token, [])
            own = [
                operation
                for operation in self._history.operations.values()
                if entry["name"] in self._names(operation) and operation.began <= entry["time"]
            ]
            since = max(
                (self._snapshot(snapshot) for snapshot in own if self._has_met_row(snapshot)),
                default=0.0,
            )
            foreign = any(
                write.fate != "absent"
                and write.settled >= since
                and entry["name"] not in self._names(write.operation)
                for write in writes
            )
            if entry["when"] == "before" and entry["is_stored"] and not entry["is_modified"]:
                if foreign:
                    continue  # changed or deleted by another request meanwhile
                owner = before.keys.get(entry["id"])
                if owner != token or before.values.get(token) != value:
                    there = "no row" if owner is None else f"{owner}={before.values.get(owner)}"
                    yield Finding(
                        "an object says that it is stored as it is, and is not",
                        f"{entry['name']} {token}={value} with key {entry['id']}: {there}",
                    )
            elif entry["when"] == "before":
                if not entry["is_stored"] and self._owns_row(entry["name"], writes):
                    yield Finding(
                        "an object has forgotten its row", f"{entry['name']} {token}={value}"
                    )
            elif not self._is_saved(own):
                continue
            elif not foreign and after.values.get(token) != value:
                yield Finding(
                    "an object was saved once more, and is not stored",
                    f"{entry['name']} {token}={value}: {after.values.get(token)}",
                )
            else:
                yield from self._family(entry, after)

    def _has_met_row(self, operation: Operation) -> bool:
        """Return whether the object and its row were the same afterwards, as far as is known."""
        if operation.error is not None or operation.name == _FINAL:
            return False  # the last save comes after all that is compared
        if operation.name == "load":
            return True
        if operation.name == "refresh":
            # Rolled back, the object shows again what it has shown before.
            return self._history.fate(operation)[0] == "acknowledged"
        # A save may have had nothing to send, and what was rolled back has met nothing.
        has_put = any(kind == "put" for kind, _, _ in operation.writes)
        return has_put and self._history.fate(operation)[0] != "absent"

    def _snapshot(self, operation: Operation) -> float:
        """Return the earliest time whose rows the operation may have seen."""
        began, block = operation.began, operation.block
        while block is not None:
            run = self._history.blocks[block]
            began, block = run.began, run.outer
        return began

    def _owns_row(self, name: str, writes: list[_Write]) -> bool:
        """Return whether the object has stored its row for good, and nobody has deleted it."""
        if any(write.value is None and write.fate != "absent" for write in writes):
            return False
        return any(
            write.fate == "acknowledged"
            and write.operation.name != _FINAL
            and name in self._names(write.operation)
            for write in writes
        )

    @staticmethod
    def _is_saved(own: list[Operation]) -> bool:
        last = max(own, key=lambda operation: operation.began, default=None)
        return last is not None and last.own_fate == "acknowledged"

    def _family(self, entry: Entry, after: Snapshot) -> Iterator[Finding]:
        key = next((key for key, token in after.keys.items() if token == entry["token"]), None)
        for part in entry["parts"]:
            if after.parents.get(part) != key:
                yield Finding(
                    "a child has not the key of its parent",
                    f"{part} belongs to {after.parents.get(part)}, its parent is {key}",
                )

    @staticmethod
    def _names(operation: Operation) -> list[str]:
        details = operation.details
        return [details["object"]] if "object" in details else details.get("objects", [])

    # -- callbacks, connections

    def _callbacks(self) -> Iterator[Finding]:
        has_died = any(self._history.of_kind("SIGTERM"))
        called = {entry["mark"] for entry in self._history.of_kind("called back")}
        fates: dict[str, set[str]] = {}  # run_transaction() registers it in each of its attempts
        for entry in self._history.of_kind("registered"):
            standing = Operation(-1, 0, entry["block"], "on_commit", [], entry["time"], {})
            standing.ended = entry["time"]
            fates.setdefault(entry["mark"], set()).add(self._history.fate(standing)[0])
        for mark, found in fates.items():
            if found == {"absent"} and mark in called:
                yield Finding("a callback of what was rolled back is called", mark)
            elif "acknowledged" in found and mark not in called and not has_died:
                yield Finding("a callback of what was committed is not called", mark)

    def _connections(self) -> Iterator[Finding]:
        evidence = self._evidence
        for entry in self._history.of_kind("refused"):
            yield Finding("strangers cannot write any more", entry["name"])
        if evidence.open_transactions:
            yield Finding("a backend is left inside of a transaction",
                          "; ".join(evidence.open_transactions))  # fmt: skip
        if not evidence.can_write:
            yield Finding("another program cannot write within a second", "after the program")
        if not evidence.can_write_after_disconnect:
            yield Finding("another program cannot write even after disconnect()", "")

    # -- tasks and blocks

    def _tasks(self) -> Iterator[Finding]:
        for entry in self._history.of_kind("hang"):
            yield Finding("a task hangs", f"task {entry['task']} in {entry['doing']}")
        exempt = {
            entry["task"]
            for entry in self._history.of_kind("caught")
            if self._comes_from_children(entry["task"], entry["error"])
        }
        for task in self._history.tasks.values():
            if task.ended == NEVER or not task.cancelling or task.number in exempt:
                continue
            if is_a(task.error, "CancelledError"):
                continue
            if not self._comes_from_children(task.number, task.error):
                yield self._not_cancelled(task.error, task.cancelled, f"task {task.number}")
        for entry in self._history.of_kind("timeout"):
            number, error = entry["task"], entry["error"]
            if number in exempt or is_a(error, "CancelledError"):
                continue
            if not self._comes_from_children(number, error):
                cancelled = [{"time": entry["when"]}]
                yield self._not_cancelled(error, cancelled, f"timeout in task {number}")

    def _comes_from_children(self, number: int, error: ErrorRecord | None) -> bool:
        """Return whether ``gather`` or a TaskGroup handed the error on.

        Both raise the error of a child even in a task that was cancelled meanwhile.
        """
        if error is None or is_a(error, "BaseExceptionGroup"):
            return error is not None
        return any(
            task.parent == number
            and task.error is not None
            and task.error["number"] == error["number"]
            for task in self._history.tasks.values()
        )

    def _not_cancelled(
        self, error: ErrorRecord | None, cancelled: list[Entry], who: str
    ) -> Finding:
        if error is None:
            return Finding("a cancellation is swallowed", who)
        # Who was cancelled by gather, or by a TaskGroup, is told nowhere when that was.
        first = min((entry["time"] for entry in cancelled), default=0.0)
        text = f"{who} ended with {error['type']}: {error['text'][:120]}"
        if self._first_seen(error) < first:
            return Finding("an error on its way wins over a cancellation", text)
        return Finding(f"a cancelled task ended with {errors.label(error)}", text)

    def _first_seen(self, error: ErrorRecord) -> float:
        times: list[float] = [
            entry["time"]
            for entry in self._history.entries
            if (entry.get("error") or {}).get("number") == error["number"]
        ]
        return min(times)

    def _blocks(self) -> Iterator[Finding]:
        for block in self._history.blocks.values():
            own, error = block.body_error, block.error
            if own is None or block.left == NEVER:
                continue
            if error is None:
                yield Finding("a block swallowed its error", f"{block.type}: {own['type']}")
            elif error["number"] != own["number"] and error["type"] != "Repeated":
                if is_a(error, "CancelledError") and (
                    block.cancelling or is_a(own, "CancelledError")
                ):
                    continue  # cancelled while it ended
                if is_a(error, "TransactionClosed") and is_a(own, "TransactionClosed"):
                    continue  # of a stream, told twice that the block around it has ended
                yield self._replaced(block, own, error)

    def _replaced(self, block: BlockRun, own: Any, error: Any) -> Finding:
        kind = "CancelledError" if is_a(own, "CancelledError") else "its own error"
        return Finding(
            f"a block ended with {errors.label(error)} in place of {kind}",
            f"{block.type}: {error['text'][:120]} in place of {own['type']}",
        )
