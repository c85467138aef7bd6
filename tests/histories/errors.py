"""The errors that the documentation names, and where they may come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.histories.fates import NEVER, BlockRun, History, Operation, is_a
from tests.histories.log import ErrorRecord
from tests.histories.steps import CutCommit, Kill, Network, Program

__all__ = ["Finding", "label", "objections"]

_KNOWN_TEXTS: Final = (
    "another operation is in progress",
    "another operation (",
    "connection is closed",
    "closed in the middle of operation",
    "cannot commit",
    "cannot rollback",
    "cannot start a transaction",
    "interrupted",
    "database is locked",
    "no such savepoint",
    "Can't operate on closed transaction",
    "already begun",
)
_CONFLICTS: Final = ("40001", "40P01")
_IN_FAILED_TRANSACTION: Final = "25P02"


@dataclass(frozen=True)
class Finding:
    """One broken promise: a symptom and what it looked like in this history."""

    symptom: str
    """The same for the same kind of fault, whatever the program was."""
    detail: str

    def __str__(self) -> str:
        return f"{self.symptom}: {self.detail}"


def label(error: ErrorRecord) -> str:
    """Return the error's class, with what is typical of its text."""
    for text in _KNOWN_TEXTS:
        if text in error["text"]:
            return f"{error['type']} ({text.strip('( ')})"
    return str(error["type"])


def objections(
    program: Program, history: History, has_row: Callable[[str, Operation], bool]
) -> Iterator[Finding]:
    """Return the errors that nobody would expect there."""
    yield from _Customs(program, history, has_row).findings()


class _Customs:
    def __init__(
        self, program: Program, history: History, has_row: Callable[[str, Operation], bool]
    ) -> None:
        self._program = program
        self._history = history
        self._has_row = has_row
        self._is_disturbed = any(
            isinstance(fault, Kill | Network | CutCommit) for fault in program.faults
        )

    def findings(self) -> Iterator[Finding]:
        for entry in self._history.of_kind("failed"):
            operation = self._history.operations[entry["operation"]]
            error = entry["error"]
            if is_a(error, "CancelledError"):
                if not entry["cancelling"]:
                    yield Finding("CancelledError in a task that nobody cancelled", operation.name)
            elif not self._may_fail(operation, error):
                yield self._finding(operation.name, operation.block is not None, error)
        for block in self._history.blocks.values():
            error = block.error
            if error is None or block.body_error is not None or error["type"] == "Repeated":
                continue
            if block.entered == NEVER:
                name, may = f"the beginning of {block.type}", self._may_begin(block, error)
            else:
                name, may = f"the end of {block.type}", self._may_end(block, error)
            if is_a(error, "CancelledError"):
                if not block.cancelling:
                    yield Finding("CancelledError in a task that nobody cancelled", name)
            elif not may:
                yield self._finding(name, block.outer is not None, error)
        for entry in self._history.of_kind("by hand failed"):
            error = entry["error"]
            if not is_a(error, "CancelledError") and not self._may_happen_by_hand(error):
                yield self._finding("a call by hand", True, error)
        yield from self._unjudged()

    def _finding(self, name: str, is_inside: bool, error: ErrorRecord) -> Finding:
        where = "inside of a block" if is_inside else "outside of blocks"
        text = re.sub(r"\s+", " ", error["text"])[:160]
        return Finding(f"undocumented here: {label(error)} {where}", f"{name}: {text}")

    # -- what may happen where

    def _may_fail(self, operation: Operation, error: ErrorRecord) -> bool:
        name = operation.name
        if self._is_documented_anywhere(error):
            return True
        if is_a(error, "TransactionAborted"):
            return operation.block is not None
        if is_a(error, "TransactionClosed"):
            return self._is_inherited(operation.block, operation.task)
        if str(error.get("state", "")).startswith("SQLITE_BUSY") and name != "raw driver":
            return self._is_streaming(operation)
        if is_a(error, "IntegrityError", "UniqueViolationError"):
            return any(
                kind == "put" and self._has_row(token, operation)
                for kind, token, _ in operation.writes
            )
        if is_a(error, "ObjectNotFound"):
            return self._may_be_gone(operation)
        if name == "raw driver":
            # The driver's own errors, from the driver itself.
            return any(base.startswith(("asyncpg.", "sqlite3.")) for base in error["bases"])
        if name.startswith(("raw", "session")):
            return self._is_sqlalchemys_own(error)
        return name == "forsake" and self._is_disturbed

    def _may_begin(self, block: BlockRun, error: ErrorRecord) -> bool:
        if self._is_documented_anywhere(error):
            return True
        if is_a(error, "TransactionAborted"):
            return block.outer is not None
        return is_a(error, "TransactionClosed") and self._is_inherited(block.outer, block.task)

    def _may_end(self, block: BlockRun, error: ErrorRecord) -> bool:
        if self._is_documented_anywhere(error) or is_a(error, "TransactionAborted"):
            return True
        if is_a(error, "NestingError"):
            return any(
                inner.outer == block.number and inner.task != block.task
                for inner in self._history.blocks.values()
            )
        if is_a(error, "TransactionClosed"):
            return self._is_inherited(block.outer, block.task)
        return False

    def _may_happen_by_hand(self, error: ErrorRecord) -> bool:
        return (
            self._is_documented_anywhere(error)
            or is_a(error, "TransactionAborted", "TransactionClosed")
            or self._is_sqlalchemys_own(error)
        )

    def _is_documented_anywhere(self, error: ErrorRecord) -> bool:
        if is_a(error, "DatabaseUnavailable", "PoolTimeout"):
            return self._is_disturbed
        if error.get("state") in _CONFLICTS and is_a(error, "DBAPIError"):
            return self._program.database == "postgresql"
        return False

    @staticmethod
    def _is_sqlalchemys_own(error: ErrorRecord) -> bool:
        """Return whether SQLAlchemy, or the server, refuses what comes after a failure."""
        if any(text in error["text"] for text in _KNOWN_TEXTS[:2]):
            return False
        if error.get("state") == _IN_FAILED_TRANSACTION:
            return True
        return is_a(error, "ResourceClosedError", "PendingRollbackError", "InvalidRequestError")

    def _is_streaming(self, operation: Operation) -> bool:
        """Return whether rows of the scope were being read, which keeps SQLite's snapshot."""
        scope = self._history.outermost(operation.block)
        if scope is None:
            return False
        streams = (
            block
            for block in self._history.blocks.values()
            if block.type in ("stream", "inner stream")
            and block.entered <= operation.ended
            and block.left >= operation.began
        )
        abandoned = (
            other for other in self._history.operations.values() if other.name == "abandon"
        )
        return any(self._history.outermost(block.number) == scope for block in streams) or any(
            self._history.outermost(other.block) == scope for other in abandoned
        )

    def _is_inherited(self, block: int | None, task: int) -> bool:
        """Return whether one of the blocks around was entered by another task."""
        while block is not None:
            run = self._history.blocks[block]
            if run.task != task:
                return True
            block = run.outer
        return False

    def _may_be_gone(self, operation: Operation) -> bool:
        names = operation.details.get("object")
        for other in self._history.operations.values():
            if any(kind == "delete" for kind, _, _ in other.writes):
                return True
        return names is None

    def _unjudged(self) -> Iterator[Finding]:
        """Errors that came from nothing that was written down: of the checker itself, maybe."""
        known = {0}
        for entry in self._history.entries:
            if entry["kind"] in ("failed", "by hand failed"):
                known.add(entry["error"]["number"])
        for block in self._history.blocks.values():
            own, left = block.body_error, block.error
            if left is not None and (own is None or own["number"] != left["number"]):
                known.add(left["number"])  # judged as the end of the block
        for call in self._history.of_kind("returned"):
            attempts = [b for b in self._history.blocks.values() if b.call == call["call"]]
            if not attempts and call["error"] is not None:
                # It failed before the function was called, as a block that did not begin.
                known.add(call["error"]["number"])
                if not is_a(call["error"], "CancelledError"):
                    yield from self._beginning_of_call(call)
        for entry in self._history.entries:
            if entry["kind"] not in ("body ended", "task ended", "caught"):
                continue
            error = entry["error"] or {"bases": [], "number": 0}
            for leaf in error.get("leaves", [error]):
                is_expected = is_a(leaf, "CancelledError", "ApplicationError")
                if type_of(leaf) == "TimeoutError" or is_expected or leaf["number"] in known:
                    continue
                known.add(leaf["number"])
                text = f"{leaf['text'][:200]} in {entry['kind']}"
                yield Finding(f"an error of nothing that was judged: {label(leaf)}", text)

    def _beginning_of_call(self, call: dict[str, Any]) -> Iterator[Finding]:
        begun = self._history.calls[call["call"]]
        block = BlockRun(
            0, begun["task"], begun["block"], "run_transaction()",
            force_rollback=False, began=call["time"],
        )  # fmt: skip
        if not self._may_begin(block, call["error"]):
            yield self._finding(
                "the beginning of run_transaction()", block.outer is not None, call["error"]
            )


def type_of(error: ErrorRecord) -> str:
    """Return the name of the error's own class."""
    return str(error.get("type", ""))
