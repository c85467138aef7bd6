"""Logs written by hand, for the tests of the judge."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from types import MappingProxyType
from typing import Any

from tests.histories.errors import Finding
from tests.histories.judge import Evidence, judge
from tests.histories.log import Entry, ErrorRecord
from tests.histories.steps import Kill, Program, Request
from tests.histories.vocabulary import BASE_TOKENS
from tests.histories.witness import Snapshot

__all__ = ["Story"]


class Story:
    """A log, written line by line, one second after another."""

    def __init__(self, *, is_disturbed: bool = False) -> None:
        self.entries: list[Entry] = []
        self._numbers = count(1)
        self._program = Program(
            0, "postgresql", 1, (Request(()),), faults=(Kill(1, 0),) if is_disturbed else ()
        )

    def write(self, kind: str, **values: Any) -> None:
        self.entries.append({"kind": kind, "time": float(len(self.entries)), **values})

    def task(self, parent: int = 0) -> int:
        number = next(self._numbers)
        self.write("task", task=number, parent=parent, block=None, how="request")
        return number

    def end_task(self, task: int, error: ErrorRecord | None = None, cancelling: int = 0) -> None:
        self.write("task ended", task=task, error=error, cancelling=cancelling)

    def begin(self, task: int, outer: int | None = None, kind: str = "transaction") -> int:
        number = next(self._numbers)
        self.write("block", block=number, task=task, outer=outer, type=kind, force_rollback=False)
        self.write("entered", block=number)
        return number

    def end(
        self, block: int, body: ErrorRecord | None = None, left: ErrorRecord | None = None,
        cancelling: int = 0,
    ) -> None:  # fmt: skip
        self.write("body ended", block=block, error=body)
        self.write("left", block=block, error=left, cancelling=cancelling)

    def verb(
        self, task: int, block: int | None, *writes: tuple[str, str, int | None],
        error: ErrorRecord | None = None, name: str = "create", hits: int | None = None,
        cancelling: int = 0, **details: Any,
    ) -> None:  # fmt: skip
        number = next(self._numbers)
        self.write(
            "operation", operation=number, task=task, block=block, name=name,
            writes=list(writes), **details,
        )  # fmt: skip
        if error is None:
            self.write("done", operation=number, hits=hits)
        else:
            self.write("failed", operation=number, error=error, cancelling=cancelling)

    def error(self, kind: str, *bases: str, text: str = "", **more: Any) -> ErrorRecord:
        names = [kind, *bases, "Exception"]
        return {
            "number": next(self._numbers), "type": kind, "text": text,
            "bases": [f"somewhere.{name}" for name in names], **more,
        }  # fmt: skip

    def judge(
        self,
        rows: Mapping[str, int] = MappingProxyType({}),
        totals: Mapping[int, int] = MappingProxyType({}),
        keys: Mapping[int, str] = MappingProxyType({}),
        **seen: Any,
    ) -> list[Finding]:
        values = {**dict.fromkeys(BASE_TOKENS, 0), **rows}
        snapshot = Snapshot(values=values, totals=dict(totals), keys=dict(keys))
        evidence = Evidence(before_saving=snapshot, at_the_end=snapshot, **seen)
        return judge(self._program, self.entries, evidence)
