"""The operators of lookups: what a suffix as ``contains`` or ``range`` does with a column and a
value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    and_,
    bindparam,
    false,
    func,
    inspect,
    not_,
    or_,
)
from sqlalchemy.orm import InspectionAttr, RelationshipProperty
from sqlalchemy.sql.selectable import SelectBase

from asgi_dbconn.errors import FieldError
from asgi_dbconn.orm.parameters import is_comparable, is_one_of, widen
from asgi_dbconn.orm.references import KeyOf

__all__ = ["OPERATORS", "PLAIN_VALUES", "RELATION_OPERATORS", "Operator", "is_expression"]

Operator = Callable[[Any, Any], ColumnElement[bool]]

_EXPRESSIONS: Final = (ClauseElement, InspectionAttr)  # cached: every filter calls it
PLAIN_VALUES: Final[frozenset[type]] = frozenset(
    {bytes, date, datetime, Decimal, float, int, str, time, timedelta, UUID}
)
"""The types of values that never change and mean themselves. None and bool mean more to SQL."""


def is_expression(value: object) -> bool:
    """Return whether the value is SQL, or an attribute that stands for SQL."""
    if type(value) in PLAIN_VALUES:
        return False
    return isinstance(value, _EXPRESSIONS) or hasattr(value, "__clause_element__")


def _text(lookup: str) -> Operator:
    # Values are always escaped: "50%" matches a per cent sign, and is no pattern.
    def operator(column: Any, value: Any) -> Any:
        if isinstance(value, str):
            return getattr(column, lookup)(value, autoescape=True)
        if is_expression(value):
            return getattr(column, lookup)(value)
        raise FieldError(f"The lookup {lookup!r} takes a string, not {value!r}.")

    return operator


def _comparison(lookup: str, compare: Operator) -> Operator:
    def operator(column: Any, value: Any) -> Any:
        if value is None:
            raise FieldError(
                f"The lookup {lookup!r} compares, and nothing is more or less than None (NULL). "
                "To look for it write isnull=True, or leave the lookup out."
            )
        if not is_comparable(column, value):
            # Every row has a smaller one, or every row a larger one.
            is_true = lookup.startswith("lt") == (value > 0)
            return column.is_not(None) if is_true else false()
        return compare(column, widen(column, value))

    return operator


def _in(column: Any, value: Any) -> Any:
    if isinstance(value, SelectBase):
        return column.in_(value)
    values = _several(value)
    known = [member for member in values if member is not None]
    # SQL's own `IN (1, NULL)` finds no NULL, and `NOT IN (1, NULL)` finds nothing at all.
    found = is_one_of(column, known)
    return found if len(known) == len(values) else or_(found, column.is_(None))


def _several(value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise FieldError(
            f"The lookup 'in' takes several values, as a list, or a select() of one column, "
            f"not {value!r}."
        )
    return list(value)


def _range(column: Any, value: Any) -> Any:
    is_pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not is_pair or None in list(value):
        raise FieldError(f"The lookup 'range' takes two values, (from, to), not {value!r}.")
    low, high = value
    if is_comparable(column, low) and is_comparable(column, high):
        return column.between(widen(column, low), widen(column, high))
    return and_(OPERATORS["gte"](column, low), OPERATORS["lte"](column, high))


def _is_null(column: Any, value: Any) -> Any:
    return column.is_(None) if _yes_or_no(value) else column.is_not(None)


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError(f"The lookup 'isnull' takes True or False, not {value!r}.")
    return value


def _exact(column: Any, value: Any) -> Any:
    if value is None:
        return column.is_(None)
    return column == widen(column, value) if is_comparable(column, value) else false()


def _not_exact(column: Any, value: Any) -> Any:
    if value is None or not is_comparable(column, value):
        return column.is_not(None)
    return column != widen(column, value)


def _iexact(column: Any, value: Any) -> Any:
    return column.is_(None) if value is None else func.lower(column) == func.lower(value)


def _regex(column: Any, value: Any) -> Any:
    if not isinstance(value, str) and not is_expression(value):
        raise FieldError(f"The lookup 'regex' takes a pattern as a string, not {value!r}.")
    return column.regexp_match(value)


OPERATORS: Final[Mapping[str, Operator]] = {
    "exact": _exact,
    "ne": _not_exact,
    "iexact": _iexact,
    "contains": _text("contains"),
    "icontains": _text("icontains"),
    "startswith": _text("startswith"),
    "istartswith": _text("istartswith"),
    "endswith": _text("endswith"),
    "iendswith": _text("iendswith"),
    "in": _in,
    "lt": _comparison("lt", lambda column, value: column < value),
    "lte": _comparison("lte", lambda column, value: column <= value),
    "gt": _comparison("gt", lambda column, value: column > value),
    "gte": _comparison("gte", lambda column, value: column >= value),
    "range": _range,
    "isnull": _is_null,
    "regex": _regex,
}
"""All that can be asked of a field. Raises FieldError for a value that makes no sense."""


def _is_related(attribute: Any, value: Any) -> Any:
    if value is None:
        return _has_none(attribute, True)
    relation = attribute.property
    _check_stored(relation, value)
    if not relation.uselist:
        return attribute == value
    # Not contains(), which joins the table of a many-to-many relation to the whole query.
    key = enumerate(relation.mapper.primary_key)
    return attribute.any(and_(*(_has_key_of(value, column, position) for position, column in key)))


def _has_key_of(instance: Any, column: Any, position: int) -> Any:
    key = KeyOf(instance, position)
    return column == bindparam(None, callable_=key, type_=column.type, unique=True)


def _is_related_to_one_of(attribute: Any, value: Any) -> Any:
    # An empty list matches nothing.
    return or_(false(), *(_is_related(attribute, instance) for instance in _several(value)))


def _has_none(attribute: Any, value: Any) -> Any:
    if attribute.property.uselist:
        return ~attribute.any() if _yes_or_no(value) else attribute.any()
    # SQLAlchemy compares the foreign key where there is one.
    is_none = attribute == None  # noqa: E711
    return is_none if _yes_or_no(value) else not_(is_none)


def _check_stored(relation: RelationshipProperty[Any], value: Any) -> None:
    model = relation.mapper.class_
    if not isinstance(value, model):
        raise FieldError(
            f"The relation {relation.key!r} is compared with a {model.__name__}, not with "
            f"{value!r}. To compare its key write {relation.key}__pk."
        )
    if inspect(value).identity is None:
        raise FieldError(
            f"The relation {relation.key!r} is compared with a {model.__name__} that has not been "
            "stored, so nothing refers to it yet. Store it first."
        )


RELATION_OPERATORS: Final[Mapping[str, Operator]] = {
    "exact": _is_related,
    "in": _is_related_to_one_of,
    "isnull": _has_none,
}
"""All that can be asked of a relation itself, instead of a field of the other model."""
