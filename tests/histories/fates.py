"""From the log to what must be stored: acknowledged, absent, or unknown, as Jepsen has it.

A verb inside of a block is acknowledged only by the commit of the outermost block, or by a commit
by hand. An error that is sure to come before the commit makes it absent. All else is unknown: it
may be stored or not, but a block is stored as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from tests.histories.log import Entry, ErrorRecord

__all__ = ["NEVER", "BlockRun", "Fate", "History", "Operation", "TaskRun", "is_a"]

Fate: TypeAlias = Literal["acknowledged", "absent", "unknown"]

NEVER: Final = float("inf")
"""The time of what has not happened."""
_CONFLICTS: Final = frozenset({"40001", "40P01"})
_REFUSALS: Final = frozenset({
    "IntegrityError", "UniqueViolationError", "ObjectNotFound",
    "TransactionAborted", "TransactionClosed", "PoolTimeout",
    "PoolClosed", "PoolOverloaded", "ConnectTimeout", "NestingError", "DeadlockError",
    "ApplicationError",
})  # fmt: skip
"""Errors after which it is sure that nothing of the statement, or of the block, is stored."""


def is_a(error: ErrorRecord | None, *names: str) -> bool:
    """Return whether the error is an instance of one of the classes."""
    if error is None:
        return False
    return any(base.rpartition(".")[2] in names for base in error["bases"])


def is_refusal(error: ErrorRecord) -> bool:
    """Return whether nothing of what raised this can be stored."""
    if is_a(error, "CancelledError"):
        return False
    if is_a(error, *_REFUSALS) or error.get("state") in _CONFLICTS:
        return True
    if error["type"] == "DatabaseUnavailable":
        return True  # no connection could be opened
    return str(error.get("state", "")).startswith("SQLITE_BUSY")


@dataclass
class ByHand:
    """A commit or rollback that the program called."""

    what: str
    began: float
    ended: float = NEVER
    error: ErrorRecord | None = None

    @property
    def has_worked(self) -> bool:
        return self.ended != NEVER and self.error is None


@dataclass
class BlockRun:
    """One execution of a block, or one attempt of ``run_transaction()``."""

    number: int
    task: int
    outer: int | None
    type: str
    force_rollback: bool
    began: float
    call: int | None = None
    entered: float = NEVER
    body_ended: float = NEVER
    body_error: ErrorRecord | None = None
    left: float = NEVER
    error: ErrorRecord | None = None
    cancelling: int = 0
    by_hand: list[ByHand] = field(default_factory=list)

    @property
    def outcome(self) -> Fate:
        """What happened to the block's own work, as far as it was not undone by hand."""
        if self.type == "inner stream":
            return "acknowledged"  # no unit of its own
        if self.force_rollback:
            return "absent"
        if self.left == NEVER:
            # The process ended, or the block hangs. Without the end of its body there is no commit.
            return "absent" if self.body_ended == NEVER else "unknown"
        if self.body_error is not None:
            return "absent"
        if self.error is None:
            return "acknowledged"
        return "absent" if is_refusal(self.error) else "unknown"


@dataclass
class Operation:
    """One verb, or one statement past the verbs."""

    number: int
    task: int
    block: int | None
    name: str
    writes: list[tuple[str, str, int | None]]
    began: float
    details: dict[str, Any]
    ended: float = NEVER
    error: ErrorRecord | None = None
    hits: int | None = None

    @property
    def own_fate(self) -> Fate:
        """Return what happened on its connection, before any commit."""
        if self.ended == NEVER:
            return "unknown"
        if self.error is not None:
            return "absent" if is_refusal(self.error) else "unknown"
        if self.name == "forsake":
            return "unknown"
        if self.hits is not None and self.hits != self.details.get("expects", self.hits or -1):
            return "unknown" if self.hits else "absent"
        return "acknowledged"


@dataclass
class TaskRun:
    number: int
    parent: int
    block: int | None
    how: str
    began: float
    ended: float = NEVER
    error: ErrorRecord | None = None
    cancelling: int = 0
    cancelled: list[Entry] = field(default_factory=list)


class History:
    """The entries of all processes, read once and joined."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = sorted(entries, key=lambda entry: entry["time"])
        self.operations: dict[int, Operation] = {}
        self.blocks: dict[int, BlockRun] = {}
        self.tasks: dict[int, TaskRun] = {}
        self.calls: dict[int, Entry] = {}
        """Calls of ``run_transaction()``."""
        self._by_hand: dict[int, ByHand] = {}
        for entry in self.entries:
            reader = getattr(self, "_read_" + entry["kind"].replace(" ", "_"), None)
            if reader is not None:
                reader(entry)
        self._settle_attempts()

    def of_kind(self, kind: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry["kind"] == kind)

    def outermost(self, block: int | None) -> int | None:
        """Return the number of the outermost block around one."""
        while block is not None and (outer := self.blocks[block].outer) is not None:
            block = outer
        return block

    def fate(self, operation: Operation) -> tuple[Fate, object, float]:
        """Return the fate, the unit that shares it if it is unknown, and when it was settled."""
        fate, unit, settled = operation.own_fate, ("operation", operation.number), operation.ended
        if fate != "absent" and self._may_be_in_autocommit(operation):
            return "unknown", unit, NEVER
        if fate == "acknowledged" and self._may_be_in_a_savepoint_of_others(operation):
            fate = "unknown"
        if fate == "absent":
            return "absent", None, settled
        uncertain: object = unit if fate == "unknown" else None
        number = operation.block
        after = operation.ended
        while number is not None:
            block = self.blocks[number]
            changed = self._changed_by_hand(block, operation, after)
            if changed == "absent":
                return "absent", None, settled
            if isinstance(changed, ByHand):
                # Committed by hand, which ends all that is around it as well.
                if changed.has_worked and uncertain is None:
                    return "acknowledged", None, changed.ended
                return "unknown", uncertain or ("by hand", number, changed.began), NEVER
            if changed == "unknown":
                uncertain = uncertain or ("by hand", number, operation.number)
            outcome = block.outcome
            if outcome == "absent":
                return "absent", None, settled
            if outcome == "unknown" and uncertain is None:
                uncertain = ("block", number)
            after = settled = block.left
            number = block.outer
        if uncertain is not None:
            return "unknown", uncertain, NEVER
        return "acknowledged", None, settled

    def _may_be_in_autocommit(self, operation: Operation) -> bool:
        """Return whether the driver was used where nothing may have begun a transaction.

        A ``connection()`` begins one with its first statement; the docs name the driver as the
        exception, so that a LISTEN takes effect at once.
        """
        scope = self.outermost(operation.block)
        return (
            operation.name == "raw driver"
            and scope is not None
            and self.blocks[scope].type == "connection"
        )

    def _may_be_in_a_savepoint_of_others(self, operation: Operation) -> bool:
        """Return whether a statement past the verbs was sent beside another task's savepoint.

        Verbs wait until that has ended. The handle of a block is the connection itself, and what
        is sent there is a part of whatever is open.
        """
        if not operation.name.startswith(("raw", "session")):
            return False
        around = set()
        block = operation.block
        while block is not None:
            around.add(block)
            block = self.blocks[block].outer
        scope = self.outermost(operation.block)
        return any(
            other.outer is not None
            and other.number not in around
            and other.began < operation.ended
            and other.left > operation.began
            and self.outermost(other.number) == scope
            for other in self.blocks.values()
        )

    def _changed_by_hand(
        self, block: BlockRun, operation: Operation, after: float
    ) -> ByHand | Fate | None:
        """Return what the first call by hand did to what was done at ``after``."""
        for call in block.by_hand:
            if call.ended <= operation.began:
                continue
            if call.what == "commit" and block.outer is not None:
                continue  # in a joined session it is a flush
            if call.began < after:
                return "unknown"  # side by side
            if call.what == "commit":
                is_refused = call.error is not None and is_refusal(call.error)
                return "absent" if is_refused else call
            return "absent" if call.has_worked else "unknown"
        return None

    # -- reading

    def _read_task(self, entry: Entry) -> None:
        self.tasks[entry["task"]] = TaskRun(
            entry["task"], entry["parent"], entry["block"], entry["how"], entry["time"]
        )

    def _read_task_ended(self, entry: Entry) -> None:
        task = self.tasks[entry["task"]]
        task.ended, task.error = entry["time"], entry["error"]
        task.cancelling = entry["cancelling"]

    def _read_cancel(self, entry: Entry) -> None:
        self.tasks[entry["task"]].cancelled.append(entry)

    def _read_operation(self, entry: Entry) -> None:
        known = ("kind", "time", "operation", "task", "block", "name", "writes", "process")
        details = {key: value for key, value in entry.items() if key not in known}
        self.operations[entry["operation"]] = Operation(
            entry["operation"], entry["task"], entry["block"], entry["name"],
            [tuple(write) for write in entry["writes"]], entry["time"], details,
        )  # fmt: skip

    def _read_done(self, entry: Entry) -> None:
        operation = self.operations[entry["operation"]]
        operation.ended, operation.hits = entry["time"], entry["hits"]

    def _read_failed(self, entry: Entry) -> None:
        operation = self.operations[entry["operation"]]
        operation.ended, operation.error = entry["time"], entry["error"]

    def _read_block(self, entry: Entry) -> None:
        self.blocks[entry["block"]] = BlockRun(
            entry["block"], entry["task"], entry["outer"], entry["type"], entry["force_rollback"],
            entry["time"], entry.get("call"),
        )  # fmt: skip

    def _read_entered(self, entry: Entry) -> None:
        self.blocks[entry["block"]].entered = entry["time"]

    def _read_body_ended(self, entry: Entry) -> None:
        block = self.blocks[entry["block"]]
        block.body_ended, block.body_error = entry["time"], entry["error"]

    def _read_left(self, entry: Entry) -> None:
        block = self.blocks[entry["block"]]
        block.left, block.error = entry["time"], entry["error"]
        block.cancelling = entry.get("cancelling", 0)

    def _read_by_hand(self, entry: Entry) -> None:
        call = self._by_hand[entry["number"]] = ByHand(entry["what"], entry["time"])
        self.blocks[entry["block"]].by_hand.append(call)

    def _read_by_hand_done(self, entry: Entry) -> None:
        self._by_hand[entry["number"]].ended = entry["time"]

    def _read_by_hand_failed(self, entry: Entry) -> None:
        call = self._by_hand[entry["number"]]
        call.ended, call.error = entry["time"], entry["error"]

    def _read_call(self, entry: Entry) -> None:
        self.calls[entry["call"]] = entry

    def _read_returned(self, entry: Entry) -> None:
        # The last attempt is the one whose outcome is that of the call.
        attempts = [block for block in self.blocks.values() if block.call == entry["call"]]
        if attempts:
            attempts[-1].left, attempts[-1].error = entry["time"], entry["error"]
            attempts[-1].cancelling = entry.get("cancelling", 0)

    def _settle_attempts(self) -> None:
        for call in self.calls:
            attempts = [block for block in self.blocks.values() if block.call == call]
            for earlier, later in pairwise(attempts):
                # It was run once more, so this one was rolled back.
                earlier.left = later.began
                earlier.error = {"number": 0, "type": "Repeated", "bases": [], "text": "",
                                 "state": "40001"}  # fmt: skip
