"""The negation in ``exclude()``, which keeps rows where a condition is NULL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    Column,
    ColumnElement,
    Exists,
    False_,
    FromClause,
    Grouping,
    Label,
    True_,
    Tuple,
    UnaryExpression,
    and_,
    false,
    func,
    not_,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BooleanClauseList, ClauseList

__all__ = ["negate"]

_NEVER_NULL: Final = frozenset(
    {
        operators.is_,
        operators.is_not,
        operators.is_distinct_from,
        operators.is_not_distinct_from,
    }
)


def negate(
    expressions: Iterable[ColumnElement[bool]], tables: Iterable[FromClause]
) -> ColumnElement[bool]:
    """Return the condition that not all of ``expressions`` are true.

    A condition that is NULL counts as not true. ``tables`` always have a row: columns of other
    tables are NULL where an outer join has found nothing.
    """
    together = and_(*expressions)
    # Only where it may be NULL: no index helps inside a function, and databases plan NOT EXISTS as
    # a join.
    if _may_be_null(together, frozenset(tables)):
        together = func.coalesce(together, false())
    return not_(together)


def _may_be_null(element: Any, tables: frozenset[FromClause]) -> bool:
    """Return whether the expression can be NULL. Unknown expressions count as nullable."""
    match element:
        case Exists() | True_() | False_():
            return False
        case Column():
            return element.nullable is not False or element.table not in tables
        case BindParameter():
            return element.callable is not None or _is_or_holds_none(element.value)
        case BinaryExpression() if element.operator in _NEVER_NULL:
            return False
        case BinaryExpression() if operators.is_comparison(element.operator):
            return _may_be_null(element.left, tables) or _may_be_null(element.right, tables)
        case BooleanClauseList() | ClauseList() | Tuple():
            return any(_may_be_null(child, tables) for child in element.get_children())
        case UnaryExpression() if element.operator is operators.inv:
            return _may_be_null(element.element, tables)
        case Grouping() | Label():
            return _may_be_null(element.element, tables)
        case _:
            return True


def _is_or_holds_none(value: object) -> bool:
    return value is None or (isinstance(value, list | tuple) and None in value)
