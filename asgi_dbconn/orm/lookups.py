"""Keyword lookups: ``name__icontains="x"`` is sugar for ``User.name.icontains("x")``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnClause,
    ColumnElement,
    TextClause,
    and_,
    false,
    func,
    not_,
    tuple_,
)
from sqlalchemy.orm import Mapper, QueryableAttribute, RelationshipProperty
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate

from asgi_dbconn.errors import FieldError

__all__ = [
    "conditions",
    "equalities",
    "field",
    "negated",
    "primary_key",
    "primary_key_is",
    "related",
]

Operator = Callable[[Any, Any], ColumnElement[bool]]

# Values are always escaped: "50%" is two digits and a per cent sign, not a pattern.
_OPERATORS: Final[Mapping[str, Operator]] = {
    "exact": lambda column, value: column.is_(None) if value is None else column == value,
    "ne": lambda column, value: column.is_not(None) if value is None else column != value,
    "iexact": lambda column, value: func.lower(column) == func.lower(value),
    "contains": lambda column, value: column.contains(value, autoescape=True),
    "icontains": lambda column, value: column.icontains(value, autoescape=True),
    "startswith": lambda column, value: column.startswith(value, autoescape=True),
    "istartswith": lambda column, value: column.istartswith(value, autoescape=True),
    "endswith": lambda column, value: column.endswith(value, autoescape=True),
    "iendswith": lambda column, value: column.iendswith(value, autoescape=True),
    "in": lambda column, value: column.in_(_several("in", value)),
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "range": lambda column, value: column.between(*_pair(value)),
    "isnull": lambda column, value: column.is_(None) if value else column.is_not(None),
    "regex": lambda column, value: column.regexp_match(value),
}


def conditions(mapper: Mapper[Any], lookups: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """An expression for each lookup. Raises FieldError naming the choices."""
    return [_condition(mapper, name, name.split("__"), value) for name, value in lookups.items()]


def negated(*expressions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Not all of them are true. Where that is unknown, because of a NULL, they are not."""
    together = and_(*expressions)
    # Only where it may be unknown: an index does not help with what is inside of a function.
    return not_(func.coalesce(together, false())) if _may_be_null(together) else not_(together)


def equalities(mapper: Mapper[Any], lookups: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a new object needs so that ``lookups`` find it: those of plain fields.

    Raises FieldError for a lookup that no value answers, as ``name__icontains``.
    """
    for name in lookups:
        if "__" in name and name not in mapper.all_orm_descriptors:
            raise FieldError(
                f"{name!r} can find a {mapper.class_.__name__}, but not make one. Look it up by "
                "plain fields, or give the values in `defaults`."
            )
    return dict(lookups)


def related(mapper: Mapper[Any], name: str, path: str) -> QueryableAttribute[Any]:
    """The relation ``name``, a step of ``path``. Raises FieldError naming those there are."""
    if name in mapper.relationships:
        attribute: QueryableAttribute[Any] = getattr(mapper.class_, name)
        return attribute
    there_are = ", ".join(sorted(each.key for each in mapper.relationships)) or "none"
    raise FieldError(
        f"{mapper.class_.__name__} has no relation {name!r} (in {path!r}). There are: {there_are}."
    )


def field(mapper: Mapper[Any], name: str) -> QueryableAttribute[Any]:
    """The mapped attribute ``name``. Raises FieldError naming those there are."""
    if name in mapper.all_orm_descriptors:
        attribute: QueryableAttribute[Any] = getattr(mapper.class_, name)
        return attribute
    raise _no_field(mapper, name)


def primary_key(mapper: Mapper[Any]) -> list[QueryableAttribute[Any]]:
    """The attributes that make up the primary key, in the order of the table."""
    return [
        getattr(mapper.class_, mapper.get_property_by_column(column).key)
        for column in mapper.primary_key
    ]


def primary_key_is(mapper: Mapper[Any], value: Any) -> ColumnElement[bool]:
    """``value`` is the key itself, or a tuple for a composite key."""
    key = primary_key(mapper)
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != len(key):
        names = ", ".join(attribute.key for attribute in key)
        raise FieldError(
            f"The primary key of {mapper.class_.__name__} is ({names}), so it is given as "
            f"{'one value' if len(key) == 1 else f'a tuple of {len(key)} values'}."
        )
    return and_(*(attribute == each for attribute, each in zip(key, values, strict=True)))


def _condition(mapper: Mapper[Any], whole: str, path: list[str], value: Any) -> ColumnElement[bool]:
    name, *rest = path
    if name == "pk" and "pk" not in mapper.all_orm_descriptors:
        return _primary_key_condition(mapper, whole, rest, value)
    attribute = field(mapper, name)
    relation = mapper.relationships.get(name)
    if relation is not None and rest:
        return _related(attribute, relation, whole, rest, value)
    return _operator(whole, rest)(attribute, value)


def _primary_key_condition(
    mapper: Mapper[Any], whole: str, rest: list[str], value: Any
) -> ColumnElement[bool]:
    key = primary_key(mapper)
    if not rest or rest == ["exact"]:
        return primary_key_is(mapper, value)
    return _operator(whole, rest)(key[0] if len(key) == 1 else tuple_(*key), value)


def _related(
    attribute: QueryableAttribute[Any],
    relation: RelationshipProperty[Any],
    whole: str,
    rest: list[str],
    value: Any,
) -> ColumnElement[bool]:
    # EXISTS, not a join: a parent with three matching children is still one row.
    inside = _condition(relation.mapper, whole, rest, value)
    return attribute.any(inside) if relation.uselist else attribute.has(inside)


def _operator(whole: str, rest: list[str]) -> Operator:
    name = "__".join(rest) or "exact"
    operator = _OPERATORS.get(name)
    if operator is None:
        raise FieldError(
            f"There is no lookup {name!r} (in {whole!r}). Lookups are: {', '.join(_OPERATORS)}. "
            "A relation is followed by a field of the other model."
        )
    return operator


def _may_be_null(expression: ColumnElement[bool]) -> bool:
    elements = list(iterate(expression))
    columns = [each for each in elements if isinstance(each, Column)]
    is_known = columns and not any(
        isinstance(each, TextClause | ColumnClause) and not isinstance(each, Column)
        for each in elements
    )
    return not is_known or any(each.nullable for each in columns)


def _several(lookup: str, value: Any) -> Any:
    if isinstance(value, SelectBase):
        return value
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise FieldError(f"The lookup {lookup!r} takes several values, as a list, not {value!r}.")
    return list(value)


def _pair(value: Any) -> Any:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise FieldError(f"The lookup 'range' takes two values, (from, to), not {value!r}.")
    return value


def _no_field(mapper: Mapper[Any], name: str) -> FieldError:
    choices = sorted(
        key
        for key in mapper.all_orm_descriptors.keys()  # noqa: SIM118 - not a dict
        if not key.startswith("_")
    )
    meant = get_close_matches(name, choices, 1)
    hint = f"Did you mean {meant[0]!r}? " if meant else ""
    return FieldError(
        f"{mapper.class_.__name__} has no field {name!r}. {hint}"
        f"Choose from: {', '.join(choices)}, pk."
    )
