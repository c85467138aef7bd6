"""Keyword lookups: ``name__icontains="x"`` is sugar for ``User.name.icontains("x")``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from sqlalchemy import ColumnElement, Label, Null, and_, tuple_
from sqlalchemy.orm import Mapper, QueryableAttribute

from asgi_dbconn.errors import FieldError
from asgi_dbconn.orm.lookup_operators import OPERATORS, RELATION_OPERATORS, Operator
from asgi_dbconn.orm.simple_terms import Equality, simple_columns

__all__ = [
    "column",
    "conditions",
    "equalities",
    "field",
    "find_relationship",
    "has_no_value",
    "primary_key",
    "primary_key_is",
]


@dataclass(frozen=True, slots=True)
class _Lookup:
    whole: str
    """The lookup as it was written, for messages."""
    path: tuple[str, ...]
    """The rest of it, seen from the model that is looked at."""
    value: Any


def conditions(
    mapper: Mapper[Any], lookups: Mapping[str, Any]
) -> list[ColumnElement[bool] | Equality]:
    """Return one condition per lookup, and one for all lookups through the same relation.

    Those are about the same related row. Raises FieldError naming the choices.
    """
    names = simple_columns(mapper)
    found: list[ColumnElement[bool] | Equality] = []
    others: list[_Lookup] = []
    for key, value in lookups.items():
        name = names.get(key)
        if name is not None and name.fits(value):
            found.append(Equality(name, value))
        else:
            others.append(_Lookup(key, _path(mapper, key), value))
    return [*found, *_conditions(mapper, others)] if others else found


def equalities(mapper: Mapper[Any], lookups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a new object that ``lookups`` would find.

    Only plain fields have them. Raises FieldError for a lookup without such a value, as
    ``name__icontains``.
    """
    values: dict[str, Any] = {}
    for name, value in lookups.items():
        plain = name.removesuffix("__exact")
        if plain == "pk" and _is_shorthand(mapper, plain):
            key = primary_key(mapper)
            given = value if isinstance(value, tuple) else (value,)
            values.update(zip((attribute.key for attribute in key), given, strict=True))
        elif plain in mapper.all_orm_descriptors:
            values[plain] = value
        else:
            raise FieldError(
                f"{name!r} can find a {mapper.class_.__name__}, but not make one. Look it up by "
                "plain fields, or give the values in `defaults`."
            )
    return values


def find_relationship(mapper: Mapper[Any], name: str, path: str) -> QueryableAttribute[Any]:
    """Return the relationship ``name``, a step of ``path``.

    Raises FieldError naming those of the model.
    """
    if name in mapper.relationships:
        attribute: QueryableAttribute[Any] = getattr(mapper.class_, name)
        return attribute
    there_are = (
        ", ".join(sorted(relationship.key for relationship in mapper.relationships)) or "none"
    )
    raise FieldError(
        f"{mapper.class_.__name__} has no relation {name!r} (in {path!r}). There are: {there_are}."
    )


def field(mapper: Mapper[Any], name: str) -> QueryableAttribute[Any]:
    """Return the mapped attribute ``name``. Raises FieldError naming those of the model."""
    if name not in mapper.all_orm_descriptors:
        raise _no_field(mapper, name)
    if has_no_value(mapper, name):
        raise FieldError(
            f"{name!r} of {mapper.class_.__name__} is a query_expression(), which is NULL in SQL: "
            "with_expression() is only about loading. Filter and order by the expression itself, "
            "and give it to values() with a label()."
        )
    attribute: QueryableAttribute[Any] = getattr(mapper.class_, name)
    return attribute


def has_no_value(mapper: Mapper[Any], name: str) -> bool:
    """Return whether ``name`` is a ``query_expression()`` without a default expression."""
    attribute = mapper.column_attrs.get(name)
    if attribute is None:
        return False
    expression = attribute.columns[0]
    return isinstance(expression, Label) and isinstance(expression.element, Null)


def column(mapper: Mapper[Any], name: str) -> QueryableAttribute[Any]:
    """Return the column attribute ``name``. ``pk`` is a primary key of one column.

    Raises FieldError for a relation, too.
    """
    if name in mapper.relationships:
        raise FieldError(
            f"{name!r} of {mapper.class_.__name__} is a relation, and here a column is asked for. "
            "Name a column, or load the relation by select_related() or prefetch_related()."
        )
    if name == "pk" and _is_shorthand(mapper, name):
        key = primary_key(mapper)
        if len(key) > 1:
            names = ", ".join(attribute.key for attribute in key)
            raise FieldError(
                f"The primary key of {mapper.class_.__name__} is several columns. Name them: "
                f"{names}."
            )
        return key[0]
    return field(mapper, name)


def primary_key(mapper: Mapper[Any]) -> list[QueryableAttribute[Any]]:
    """Return the attributes that make up the primary key, in the order of the table."""
    return [
        getattr(mapper.class_, mapper.get_property_by_column(column).key)
        for column in mapper.primary_key
    ]


def primary_key_is(mapper: Mapper[Any], value: Any) -> ColumnElement[bool]:
    """Return the condition that the primary key is ``value``.

    ``value`` is the key itself, or a tuple for a composite key.
    """
    key = primary_key(mapper)
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != len(key):
        names = ", ".join(attribute.key for attribute in key)
        raise FieldError(
            f"The primary key of {mapper.class_.__name__} is ({names}), so it is given as "
            f"{'one value' if len(key) == 1 else f'a tuple of {len(key)} values'}."
        )
    return and_(
        *(
            # As SQLAlchemy compares: None is NULL, and no row has it as its key.
            attribute == part if part is None else OPERATORS["exact"](attribute, part)
            for attribute, part in zip(key, values, strict=True)
        )
    )


def _path(mapper: Mapper[Any], name: str) -> tuple[str, ...]:
    return (name,) if name in mapper.all_orm_descriptors else tuple(name.split("__"))


def _conditions(mapper: Mapper[Any], lookups: Iterable[_Lookup]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    through: dict[str, list[_Lookup]] = {}
    for lookup in lookups:
        name, *rest = lookup.path
        if name == "pk" and _is_shorthand(mapper, name):
            found.append(_primary_key_condition(mapper, lookup, rest))
        elif name not in mapper.relationships:
            found.append(_operator(OPERATORS, lookup, rest)(field(mapper, name), lookup.value))
        elif _is_about_the_relation(mapper, name, rest):
            operator = _operator(RELATION_OPERATORS, lookup, rest)
            found.append(operator(find_relationship(mapper, name, lookup.whole), lookup.value))
        else:
            through.setdefault(name, []).append(replace(lookup, path=tuple(rest)))
    return found + [_find_relationship(mapper, name, inner) for name, inner in through.items()]


def _is_about_the_relation(mapper: Mapper[Any], name: str, rest: Sequence[str]) -> bool:
    # A field that is called like an operator, as `in`, is the field.
    fields = mapper.relationships[name].mapper.all_orm_descriptors
    return not rest or (len(rest) == 1 and rest[0] in RELATION_OPERATORS and rest[0] not in fields)


def _find_relationship(
    mapper: Mapper[Any], name: str, lookups: Sequence[_Lookup]
) -> ColumnElement[bool]:
    # EXISTS, not a join: a parent with three matching children is still one row.
    attribute = find_relationship(mapper, name, lookups[0].whole)
    relation = mapper.relationships[name]
    inside = and_(*_conditions(relation.mapper, lookups))
    return attribute.any(inside) if relation.uselist else attribute.has(inside)


def _primary_key_condition(
    mapper: Mapper[Any], lookup: _Lookup, rest: Sequence[str]
) -> ColumnElement[bool]:
    key = primary_key(mapper)
    if not rest or rest == ["exact"]:
        return primary_key_is(mapper, lookup.value)
    operator = _operator(OPERATORS, lookup, rest)
    return operator(key[0] if len(key) == 1 else tuple_(*key), lookup.value)


def _is_shorthand(mapper: Mapper[Any], name: str) -> bool:
    """Return whether ``pk`` means the primary key, and no field of the model."""
    return name not in mapper.all_orm_descriptors


def _operator(known: Mapping[str, Operator], lookup: _Lookup, rest: Sequence[str]) -> Operator:
    name = "__".join(rest) if rest else "exact"
    operator = known.get(name)
    if operator is None:
        raise FieldError(
            f"There is no lookup {name!r} (in {lookup.whole!r}). Lookups are: {', '.join(known)}. "
            "A relation is followed by a field of the other model."
        )
    return operator


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
