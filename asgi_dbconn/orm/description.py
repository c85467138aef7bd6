"""What a query asks for, as a value, and the statements that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    ClauseElement,
    ColumnClause,
    ColumnElement,
    Exists,
    FromClause,
    ScalarSelect,
    Select,
    SelectBase,
    TextClause,
    UnaryExpression,
    exists,
    func,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.base import ExecutableOption

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.lookups import primary_key

__all__ = ["Description"]

T = TypeVar("T")

_ORDERS: Final = frozenset(
    {operators.asc_op, operators.desc_op, operators.nulls_first_op, operators.nulls_last_op}
)


@dataclass(frozen=True, slots=True)
class Description(Generic[T]):
    """Immutable; knows nothing of databases. Statements are built when they are asked for."""

    model: type[T]
    where: tuple[ColumnElement[bool], ...] = ()
    order: tuple[Any, ...] = ()
    limit: int | None = None
    offset: int | None = None
    is_distinct: bool = False
    options: tuple[ExecutableOption, ...] = ()
    """Loader options, SQLAlchemy's own."""
    takes_several: bool = False
    """Whether those options may load by statements of their own."""
    lock: Mapping[str, Any] | None = field(default=None, hash=False)
    """The arguments of ``with_for_update``; None is no lock."""

    @property
    def mapper(self) -> Mapper[T]:
        return class_mapper(self.model)

    @property
    def is_sliced(self) -> bool:
        """Whether it is about some of the matching rows only."""
        return self.limit is not None or self.offset is not None

    @property
    def is_all(self) -> bool:
        """Whether nothing was said yet: all rows, in any order, loaded as usual."""
        return (
            not (self.where or self.order or self.is_sliced or self.options) and self.lock is None
        )

    @property
    def brings_in_others(self) -> bool:
        """Whether its conditions name other tables than the model's, outside of subqueries."""
        return any(_is_of_another(each, self.mapper.tables) for each in self.where)

    def changed(self, **changes: Any) -> Description[T]:
        return replace(self, **changes)

    def narrowed(self, *conditions: ColumnElement[bool]) -> Description[T]:
        return replace(self, where=(*self.where, *conditions))

    def limited(self, rows: int) -> Description[T]:
        """At most ``rows``, or fewer if fewer were asked for already."""
        return replace(self, limit=rows if self.limit is None else min(self.limit, rows))

    def ordered(self) -> Description[T]:
        """In its own order, or else by primary key."""
        return self if self.order else replace(self, order=tuple(primary_key(self.mapper)))

    def reversed(self) -> Description[T]:
        """In the opposite order; to be sliced after that, and not before."""
        return replace(self, order=tuple(_opposite(each) for each in self.ordered().order))

    def last(self) -> Description[T]:
        """Those rows whose last one is the last of all: one row, where one is enough."""
        if self.limit is not None:
            return self.ordered()  # the last of these, not the first of the others
        last = self.changed(offset=None).reversed().limited(1)
        return last if self.offset is None else last.narrowed(exists(self.keys()))

    def objects(self) -> Select[T]:
        """A SELECT of whole objects."""
        statement: Select[T] = self.shaped(select(self.model))
        return statement.options(*self.options)

    def columns(self, *columns: Any) -> Select[*tuple[Any, ...]]:
        """A SELECT of these columns instead."""
        statement: Select[*tuple[Any, ...]] = self.shaped(select(*columns))
        return statement

    def keys(self) -> Select[*tuple[Any, ...]]:
        """The primary keys of the rows, for statements about them; ordered where it matters."""
        key = primary_key(self.mapper)
        # Never correlated: inside of an UPDATE of the same table it would be about one row of it.
        if not self.is_sliced:
            return select(*key).where(*self.where).correlate(None)
        # PostgreSQL orders distinct rows only by what they consist of.
        order = [_unmodified(each) for each in self.order] if self.is_distinct else []
        rows = replace(self, lock=None).shaped(select(*key, *order)).correlate(None)
        if not order:
            keys: Select[*tuple[Any, ...]] = rows
            return keys
        return select(*list(rows.subquery().c)[: len(key)])

    def key_column(self) -> Any:
        """What :meth:`keys` can be compared with."""
        key = primary_key(self.mapper)
        return key[0] if len(key) == 1 else tuple_(*key)

    def count(self) -> Select[int]:
        if self.is_sliced or self.is_distinct:
            keys = self.keys() if self.is_sliced else self.keys().distinct()
            return select(func.count()).select_from(keys.subquery())
        return select(func.count()).select_from(self.model).where(*self.where)

    def exists(self) -> Select[bool]:
        return select(exists(self.keys()))

    def shaped(self, statement: Any) -> Any:
        """``statement``, which selects of the model's table, with the conditions and all."""
        statement = statement.where(*self.where).order_by(*self.order)
        if self.is_distinct:
            statement = statement.distinct()
        if self.limit is not None:
            statement = statement.limit(self.limit)
        if self.offset is not None:
            statement = statement.offset(self.offset)
        if self.lock is not None:
            # Not the rows of joined relations; PostgreSQL refuses those that may be missing.
            statement = statement.with_for_update(**self.lock, of=self.model)
        return statement


def _is_of_another(element: Any, tables: Sequence[FromClause]) -> bool:
    """Whether a column of a table that is not one of ``tables`` is in it."""
    if not isinstance(element, ClauseElement):
        attribute = getattr(element, "__clause_element__", None)
        # A lambda has none: nobody knows before it is called.
        return attribute is None or _is_of_another(attribute(), tables)
    if isinstance(element, SelectBase | ScalarSelect | Exists):
        return False
    if isinstance(element, ColumnClause):
        return element.table is not None and element.table not in tables
    return any(_is_of_another(each, tables) for each in element.get_children())


def _opposite(order: Any) -> Any:
    modifier = order.modifier if isinstance(order, UnaryExpression) else None
    if modifier is operators.desc_op:
        return order.element.asc()
    if modifier is operators.asc_op:
        return order.element.desc()
    if modifier is operators.nulls_first_op:
        return _opposite(order.element).nulls_last()
    if modifier is operators.nulls_last_op:
        return _opposite(order.element).nulls_first()
    if isinstance(order, TextClause):
        raise ConfigurationError(
            f"last() cannot turn round an order that is text: {order.text!r}. Order by expressions "
            "or names."
        )
    return order.desc()


def _unmodified(order: Any) -> Any:
    is_modified = isinstance(order, UnaryExpression) and order.modifier in _ORDERS
    return _unmodified(order.element) if is_modified else order
