"""What a query asks for, as a value, and the statements that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, UnaryExpression, exists, func, select, tuple_
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.base import ExecutableOption

from asgi_dbconn.orm.lookups import primary_key

__all__ = ["Description"]

T = TypeVar("T")


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
    lock: Mapping[str, Any] | None = field(default=None, hash=False)
    """The arguments of ``with_for_update``; None is no lock."""

    @property
    def mapper(self) -> Mapper[T]:
        return class_mapper(self.model)

    @property
    def is_sliced(self) -> bool:
        """Whether it is about some of the matching rows only."""
        return self.limit is not None or self.offset is not None

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

    def objects(self) -> Select[T]:
        """A SELECT of whole objects."""
        statement: Select[T] = self._shaped(select(self.model))
        return statement.options(*self.options)

    def columns(self, *columns: Any) -> Select[*tuple[Any, ...]]:
        """A SELECT of these columns instead."""
        statement: Select[*tuple[Any, ...]] = self._shaped(select(*columns))
        return statement

    def keys(self) -> Select[*tuple[Any, ...]]:
        """The primary keys of the rows, for statements about them; ordered where it matters."""
        columns = select(*primary_key(self.mapper))
        if not self.is_sliced:
            return columns.where(*self.where)
        keys: Select[*tuple[Any, ...]] = replace(self, lock=None)._shaped(columns)
        return keys

    def key_column(self) -> Any:
        """What :meth:`keys` can be compared with."""
        key = primary_key(self.mapper)
        return key[0] if len(key) == 1 else tuple_(*key)

    def count(self) -> Select[int]:
        if self.is_sliced:
            return select(func.count()).select_from(self.keys().subquery())
        return select(func.count()).select_from(self.model).where(*self.where)

    def exists(self) -> Select[bool]:
        return select(exists(self.keys()))

    def _shaped(self, statement: Select[Any]) -> Any:
        statement = statement.where(*self.where).order_by(*self.order)
        if self.is_distinct:
            statement = statement.distinct()
        if self.limit is not None:
            statement = statement.limit(self.limit)
        if self.offset is not None:
            statement = statement.offset(self.offset)
        if self.lock is not None:
            statement = statement.with_for_update(**self.lock)
        return statement


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
    return order.desc()
