"""The kind of a statement for SQLite, by its text: it reads, writes, or controls a transaction.

SQLite itself knows, but its Python driver does not tell. A statement that is not recognised counts
as one that writes.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

__all__ = ["LOCKING", "Kind", "change_savepoints", "kind_of"]

LOCKING: Final = " /* FOR UPDATE */"
"""The end of a SELECT that locks what it reads. SQLite has one lock, for all that is written."""


class Kind(IntEnum):
    """The kind of a statement: the higher, the more is lost with it."""

    CONTROLS = 0
    """BEGIN, COMMIT, SAVEPOINT and the like."""
    READS = 1
    WRITES = 2


_QUICK: Final = {
    "SELECT": Kind.READS,
    "INSERT": Kind.WRITES,
    "UPDATE": Kind.WRITES,
    "DELETE": Kind.WRITES,
}
_WORDS: Final = {
    **_QUICK,
    "VALUES": Kind.READS,
    "EXPLAIN": Kind.READS,
    "BEGIN": Kind.CONTROLS,
    "COMMIT": Kind.CONTROLS,
    "END": Kind.CONTROLS,
    "ROLLBACK": Kind.CONTROLS,
    "SAVEPOINT": Kind.CONTROLS,
    "RELEASE": Kind.CONTROLS,
}
_COMMENTS: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))*", re.DOTALL)
_WORD: Final = re.compile(r"\w+")
_WRITING_WORD: Final = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_PRAGMA: Final = re.compile(r"PRAGMA\s+(?:\S+?\.)?(\w+)\s*([=(]?)", re.IGNORECASE)
_READING_PRAGMAS: Final = ("table_", "index_", "foreign_key_")
_SAVEPOINT: Final = re.compile(
    r"(SAVEPOINT|RELEASE|ROLLBACK)(?:\s+TRANSACTION)?(?:\s+TO)?(?:\s+SAVEPOINT)?\s+(\S+?)\s*;?\s*$",
    re.IGNORECASE,
)


def kind_of(statement: str) -> Kind:
    """Return what ``statement`` does."""
    kind = _QUICK.get(statement[:6])
    if kind is None:
        return _look_closely(statement)
    return Kind.WRITES if kind is Kind.READS and statement.endswith(LOCKING) else kind


def change_savepoints(savepoints: list[str], statement: str) -> None:
    """Note in ``savepoints`` what ``statement``, which has succeeded, did to them."""
    found = _SAVEPOINT.match(statement, _begin_of(statement))
    if found is None:
        return
    verb, name = found[1].upper(), found[2].lower()
    if verb == "SAVEPOINT":
        savepoints.append(name)
    elif name in savepoints:
        last = len(savepoints) - 1 - savepoints[::-1].index(name)
        del savepoints[last + (verb == "ROLLBACK") :]  # ROLLBACK TO leaves the savepoint itself


def _begin_of(statement: str) -> int:
    found = _COMMENTS.match(statement)
    return 0 if found is None else found.end()


def _look_closely(statement: str) -> Kind:
    begin = _begin_of(statement)
    found = _WORD.match(statement, begin)
    word = "" if found is None else found[0].upper()
    if word == "WITH":
        writes = _WRITING_WORD.search(statement, begin) is not None
        return Kind.WRITES if writes else Kind.READS
    if word == "PRAGMA":
        return _look_at_pragma(statement, begin)
    return _WORDS.get(word, Kind.WRITES)


def _look_at_pragma(statement: str, begin: int) -> Kind:
    found = _PRAGMA.match(statement, begin)
    if found is None:
        return Kind.WRITES
    name, sign = found[1].lower(), found[2]
    if not sign or (sign == "(" and name.startswith(_READING_PRAGMAS)):
        return Kind.READS
    return Kind.WRITES
