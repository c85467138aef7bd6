"""The log of a run: what was begun, and how it ended, in the order in which it happened.

An entry is a dictionary of plain values, so that a process that is killed leaves a readable file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

__all__ = ["Entry", "ErrorRecord", "Log", "describe", "read"]

Entry: TypeAlias = dict[str, Any]
ErrorRecord: TypeAlias = dict[str, Any]

_NUMBER: Final = "_number_in_history"
_LONGEST_TEXT: Final = 300


class Log:
    """Entries in memory and, if a file is given, also there before `write` returns."""

    def __init__(self, process: int = 0, file: Path | None = None) -> None:
        self.entries: list[Entry] = []
        # Numbers of two processes never meet.
        self._numbers = count(process * 1_000_000 + 1)
        self._errors = count(process * 1_000_000 + 1)
        self._file = None if file is None else os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def number(self) -> int:
        """Return a number that nothing else in the log has."""
        return next(self._numbers)

    def write(self, kind: str, **values: Any) -> None:
        entry = {"kind": kind, "time": time.monotonic(), **values}
        self.entries.append(entry)
        if self._file is not None:
            os.write(self._file, json.dumps(entry).encode() + b"\n")

    def describe(self, error: BaseException) -> ErrorRecord:
        """Describe ``error``; the same object has the same number, however often it is seen."""
        return describe(error, self._errors)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def describe(error: BaseException, numbers: count[int]) -> ErrorRecord:
    """Return what a judge wants to know of ``error``, without keeping it alive."""
    number = getattr(error, _NUMBER, None)
    if number is None:
        number = next(numbers)
        setattr(error, _NUMBER, number)
    record: ErrorRecord = {
        "number": number,
        "type": type(error).__name__,
        "bases": [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__[:-2]],
        "text": str(error)[:_LONGEST_TEXT],
    }
    original = getattr(error, "orig", None)
    for source in (original, getattr(original, "__cause__", None), error):
        state = getattr(source, "sqlstate", None) or getattr(source, "sqlite_errorname", None)
        if isinstance(state, str):
            record["state"] = state
            break
    if isinstance(error, BaseExceptionGroup):
        record["leaves"] = [describe(leaf, numbers) for leaf in _leaves(error)]
    return record


def _leaves(group: BaseExceptionGroup[BaseException]) -> Sequence[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def read(file: Path) -> list[Entry]:
    """Return the entries of a file; a line that was cut off is left out."""
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]
