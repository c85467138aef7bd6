"""Parameters of comparisons: integers out of a column's range, and lists of any length.

No row has an integer that the column's type cannot hold, but a driver refuses such a value before
it sends the statement: ``/items/99999999999999999999`` would be an error of the server, where it is
an item that does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    SmallInteger,
    Tuple,
    and_,
    bindparam,
    or_,
)

__all__ = ["bounds_of", "is_comparable", "is_held", "is_one_of", "widen"]

_SMALL: Final = range(-(2**15), 2**15)
_USUAL: Final = range(-(2**31), 2**31)
_BIG: Final = range(-(2**63), 2**63)
_MOST_PARAMETERS: Final = 10_000
"""Of one list. asyncpg takes 32,767 in a statement, and SQLite as many."""


def bounds_of(column: Any) -> range | None:
    """Return the integers that a column holds on PostgreSQL. SQLite holds 64 bits in each.

    None if its type is no integer of SQLAlchemy's own.
    """
    kind = getattr(column, "type", None)
    if not isinstance(kind, Integer):
        return None
    if isinstance(kind, SmallInteger):
        return _SMALL
    return _BIG if isinstance(kind, BigInteger) else _USUAL


def is_held(column: Any, value: object) -> bool:
    """Return whether the type of the column holds the value, if that is an integer."""
    if type(value) is not int:
        return True
    bounds = bounds_of(column)
    return bounds is None or value in bounds


def is_comparable(column: Any, value: object) -> bool:
    """Return whether a row may have the value. Only integers of more than 64 bits are refused."""
    return type(value) is not int or value in _BIG or bounds_of(column) is None


def widen(column: Any, value: Any) -> Any:
    """Return the value as the column can be compared with it: out of its range, as 64 bits."""
    if is_held(column, value):
        return value
    return bindparam(None, value, type_=BigInteger(), unique=True)


def is_one_of(column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that ``column``, or a tuple of columns, has one of ``values``.

    A long list becomes a part of the statement's text instead of parameters, when it is executed.
    """
    columns = column.clauses if isinstance(column, Tuple) else [column]
    rows = values if isinstance(column, Tuple) else [(value,) for value in values]
    usual, wide = [], []
    for value, row in zip(values, rows, strict=True):
        pairs = list(zip(columns, row, strict=True))
        if all(is_held(part, member) for part, member in pairs):
            usual.append(value)
        elif all(is_comparable(part, member) for part, member in pairs):
            wide.append(and_(*(part == widen(part, member) for part, member in pairs)))
    found: ColumnElement[bool] = column.in_(_parameter(column, usual, len(columns)))
    return or_(found, *wide) if wide else found


def _parameter(column: Any, values: list[Any], columns: int) -> Any:
    if len(values) * columns <= _MOST_PARAMETERS:
        return values
    return bindparam(
        None, values, type_=column.type, unique=True, expanding=True, literal_execute=True
    )
