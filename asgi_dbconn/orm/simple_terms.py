"""Simple terms: conditions and orderings by column name and plain value.

Most queries have no others. Their statement depends on the names alone: it is built once, and the
values are its parameters. Everything else that SQLAlchemy can compare, by the user's own types and
comparators or by the kind of a value, is an expression, and its statement is built each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import BindParameter, Column, TypeDecorator, bindparam
from sqlalchemy.orm import ColumnProperty, Mapper, QueryableAttribute
from sqlalchemy.sql import operators

from asgi_dbconn.orm.fast_path.hydration import memoize
from asgi_dbconn.orm.lookup_operators import PLAIN_VALUES
from asgi_dbconn.orm.parameters import bounds_of

__all__ = ["Equality", "Name", "Ordering", "as_expressions", "simple_columns"]

_KEY: Final = "asgi_dbconn.names"


class Name:
    """A column attribute used by name. Lives as long as the memoized facts of its mapper."""

    __slots__ = ("_bounds", "_fitting", "attribute", "column", "key")

    def __init__(self, key: str, attribute: QueryableAttribute[Any], column: Column[Any]) -> None:
        self.key = key
        self.attribute = attribute
        self.column = column
        self._fitting: dict[type, bool] = {}
        self._bounds = bounds_of(column)

    def fits(self, value: Any) -> bool:
        """Return whether the column compares with ``value`` by the column's own type."""
        kind = type(value)
        is_fitting = self._fitting.get(kind)
        if is_fitting is None:
            # SQLAlchemy compares an integer with 1.5 by the type of the value.
            is_fitting = self._fitting[kind] = (
                kind in PLAIN_VALUES
                and self.column.type.coerce_compared_value(operators.eq, value) is self.column.type
            )
        return is_fitting and (kind is not int or self._bounds is None or value in self._bounds)


class Equality:
    """A condition: a column has a value."""

    __slots__ = ("name", "value")

    def __init__(self, name: Name, value: object) -> None:
        self.name = name
        self.value = value

    @property
    def expression(self) -> Any:
        return self.name.attribute == self.value

    def with_parameter(self, parameter: str) -> Equality:
        """Return the condition with a parameter of that name in place of the value."""
        bound: BindParameter[Any] = bindparam(parameter, type_=self.name.column.type)
        return Equality(self.name, bound)


class Ordering:
    """A column of an ORDER BY, ascending or descending."""

    __slots__ = ("is_descending", "name")

    def __init__(self, name: Name, *, is_descending: bool) -> None:
        self.name = name
        self.is_descending = is_descending

    @property
    def expression(self) -> Any:
        attribute = self.name.attribute
        return attribute.desc() if self.is_descending else attribute.asc()

    @property
    def opposite(self) -> Ordering:
        return Ordering(self.name, is_descending=not self.is_descending)


def as_expressions(said: Iterable[Any]) -> tuple[Any, ...]:
    """Return the terms, given by names or as expressions, as SQLAlchemy expressions."""
    return tuple(
        [part.expression if isinstance(part, Equality | Ordering) else part for part in said]
    )


def simple_columns(mapper: Mapper[Any]) -> Mapping[str, Name]:
    """Return the columns that can be used by name. ``pk`` is one, if no attribute has that name."""
    names: Mapping[str, Name] = memoize(mapper, _KEY, _names)
    return names


def _names(mapper: Mapper[Any]) -> Mapping[str, Name]:
    names: dict[str, Name] = {}
    for column_property in mapper.column_attrs:
        attribute = getattr(mapper.class_, column_property.key)
        column, *others = column_property.columns
        if not others and isinstance(column, Column) and _is_usual(attribute, column):
            names[column_property.key] = Name(column_property.key, attribute, column)
    if len(mapper.primary_key) == 1 and "pk" not in mapper.all_orm_descriptors:
        key = names.get(mapper.get_property_by_column(mapper.primary_key[0]).key)
        if key is not None:
            names["pk"] = key
    return names


def _is_usual(attribute: QueryableAttribute[Any], column: Column[Any]) -> bool:
    """Return whether the column uses SQLAlchemy's own types and comparators."""
    return (
        type(attribute.comparator) is ColumnProperty.Comparator
        and not isinstance(column.type, TypeDecorator)
        and type(column.type).__module__.startswith("sqlalchemy.")
    )
