"""A query as a value: what a QuerySet asks for, its statements, and their cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
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
    bindparam,
    exists,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.orm.interfaces import LoaderOption
from sqlalchemy.sql import operators
from sqlalchemy.sql.base import ExecutableOption

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.aggregates import is_aggregate
from asgi_dbconn.orm.fast_path.hydration import memoize
from asgi_dbconn.orm.lookups import primary_key
from asgi_dbconn.orm.references import Reference, references_in
from asgi_dbconn.orm.simple_terms import Equality, Ordering, as_expressions, simple_columns

__all__ = ["Query", "cached_statement"]

T = TypeVar("T")
S = TypeVar("S")


# No column has such a name: an UPDATE takes its new values by column name.
_VALUE: Final = "asgi_dbconn_value_"
_LIMIT: Final = "asgi_dbconn_limit"
_OFFSET: Final = "asgi_dbconn_offset"
_ORDERS: Final = frozenset(
    {operators.asc_op, operators.desc_op, operators.nulls_first_op, operators.nulls_last_op}
)


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """An immutable description of a query, without a database. It builds statements on demand."""

    model: type[T]
    conditions: tuple[ColumnElement[bool] | Equality, ...] = ()
    order: tuple[Any, ...] = ()
    """Expressions, and orderings by name."""
    limit: int | Any | None = None
    offset: int | Any | None = None
    is_distinct: bool = False
    options: tuple[ExecutableOption, ...] = ()
    """Loader options, SQLAlchemy's own."""
    takes_several: bool = False
    """True if those options may load by statements of their own."""
    lock: Mapping[str, Any] | None = field(default=None, hash=False)
    """The arguments of ``with_for_update``; None is no lock."""
    references: tuple[Reference, ...] = ()
    """The objects that conditions compare with."""

    @property
    def mapper(self) -> Mapper[T]:
        return class_mapper(self.model)

    @property
    def where(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions, as expressions."""
        return as_expressions(self.conditions)

    @property
    def on_table(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions on columns of the table, for a query that has a cache key."""
        return tuple(
            condition.name.column == condition.value
            for condition in self.conditions
            if isinstance(condition, Equality)
        )

    @property
    def cache_key(self) -> Hashable | None:
        """The query without its values. None if it consists of more than names and values."""
        if self.options or self.lock is not None:
            return None
        names: list[object] = []
        for condition in self.conditions:
            if not isinstance(condition, Equality):
                return None
            names.append(condition.name.key)
        for step in self.order:
            if not isinstance(step, Ordering):
                return None
            names.append((step.name.key, step.is_descending))
        return (*names, self.limit is None, self.offset is None, self.is_distinct)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of a statement that was built :meth:`without_values`."""
        values = {
            f"{_VALUE}{number}": condition.value
            for number, condition in enumerate(self.conditions)
            if isinstance(condition, Equality)
        }
        if self.limit is not None:
            values[_LIMIT] = self.limit
        if self.offset is not None:
            values[_OFFSET] = self.offset
        return values

    def without_values(self) -> Query[T]:
        """Return the query with parameters in place of values, for one that has a cache key."""
        return replace(
            self,
            conditions=tuple(
                condition.with_parameter(f"{_VALUE}{number}")
                if isinstance(condition, Equality)
                else condition
                for number, condition in enumerate(self.conditions)
            ),
            limit=None if self.limit is None else bindparam(_LIMIT, type_=BigInteger()),
            offset=None if self.offset is None else bindparam(_OFFSET, type_=BigInteger()),
        )

    @property
    def is_sliced(self) -> bool:
        """True if the query takes only a slice of the matching rows."""
        return self.limit is not None or self.offset is not None

    @property
    def is_all(self) -> bool:
        """True if the query selects all rows, in any order, with default loading."""
        return (
            not (self.conditions or self.order or self.is_sliced or self.options)
            and self.lock is None
        )

    @property
    def joins_others(self) -> bool:
        """True if conditions use tables other than the model's, outside of subqueries.

        Then an object may be in several rows.
        """
        if self.is_distinct or all(isinstance(step, Equality) for step in self.conditions):
            return False
        return any(_is_of_another(condition, self.mapper.tables) for condition in self.where)

    @property
    def repeats_objects(self) -> bool:
        """True if an object may be in several rows of :meth:`one_row_each`."""
        return self.joins_others and (self.lock is not None or self._is_ordered_by_others)

    @property
    def _is_ordered_by_others(self) -> bool:
        order = [step for step in self.order if not isinstance(step, Ordering)]
        return any(_is_of_another(step, self.mapper.tables) for step in order)

    def one_row_each(self) -> Query[T]:
        """Return a query of the same objects in which each is one row, so that limits count them.

        Joins of conditions become a subquery, unless the order needs their tables, or rows are to
        be locked.
        """
        if not self.joins_others or self.lock is not None or self._is_ordered_by_others:
            return self
        joined = replace(self, order=(), limit=None, offset=None)
        return replace(self, conditions=joined.by_key_of_rows().conditions)

    def of_rows(self) -> Query[T]:
        """Return the query without loader options, for a statement that loads no objects.

        Options that concern rows stay, as ``with_loader_criteria()`` does. Only a Session applies
        them.
        """
        criteria = (option for option in self.options if not isinstance(option, LoaderOption))
        return replace(self, options=tuple(criteria), takes_several=False)

    def replace(self, **changes: Any) -> Query[T]:
        return replace(self, **changes)

    def with_conditions(self, *conditions: ColumnElement[bool] | Equality) -> Query[T]:
        references = self.references
        for condition in conditions:
            if not isinstance(condition, Equality):
                references += references_in((condition,))
        return replace(self, conditions=(*self.conditions, *conditions), references=references)

    def with_limit(self, rows: int) -> Query[T]:
        """Return the query limited to ``rows``. A lower limit stays."""
        return replace(self, limit=rows if self.limit is None else min(self.limit, rows))

    def with_order(self) -> Query[T]:
        """Return the query with an order: its own, or the primary key."""
        return self if self.order else replace(self, order=_by_key(self.mapper))

    def in_reverse(self) -> Query[T]:
        """Return the query in reverse order. Slice after that, not before."""
        return replace(self, order=tuple(_opposite(step) for step in self.with_order().order))

    def last(self) -> Query[T]:
        """Return a query whose last row is the last match. Usually it selects one row."""
        if self.limit is not None:
            return self.with_order()  # the last row of the slice, not the first row after it
        last = self.replace(offset=None).in_reverse().with_limit(1)
        return last if self.offset is None else last.with_conditions(exists(self.keys()))

    def objects(self) -> Select[T]:
        """Return a SELECT of whole objects."""
        statement: Select[T] = self.apply_to(select(self.model))
        return statement.options(*self.options)

    def columns(self, *columns: Any) -> Select[*tuple[Any, ...]]:
        """Return a SELECT of these columns instead.

        Beside aggregates it groups by the other columns. Aggregates alone are those of the rows of
        a slice, as ``count()`` counts them.
        """
        rows = self
        statement: Select[*tuple[Any, ...]] = select(*columns).select_from(self.model)
        plain = [position for position, column in enumerate(columns, 1) if not is_aggregate(column)]
        if plain and len(plain) < len(columns):
            # By position: two parameters are different expressions to PostgreSQL.
            statement = statement.group_by(*(literal_column(str(position)) for position in plain))
        elif not plain and (self.is_sliced or self.is_distinct):
            rows = self.by_key_of_rows()
        statement = rows.apply_to(statement)
        return statement.options(*self.options)

    def by_key_of_rows(self) -> Query[T]:
        """Return a query of the same objects, without order, slice or tables besides the model's.

        Each object is one row of it, whatever its conditions join.
        """
        found: Any = self.key_column().in_(self.keys())
        return replace(
            self, conditions=(found,), order=(), limit=None, offset=None, is_distinct=False
        )

    def keys(self) -> Select[*tuple[Any, ...]]:
        """Return the primary keys of the rows, for statements about them.

        They are ordered if the query is sliced.
        """
        key = primary_key(self.mapper)
        # Never correlated: inside an UPDATE of the same table it would see only the row under
        # update.
        if not self.is_sliced:
            return select(*key).where(*self.where).correlate(None)
        # PostgreSQL orders distinct rows only by selected expressions.
        order = (
            [_remove_modifiers(step) for step in as_expressions(self.order)]
            if self.is_distinct
            else []
        )
        rows: Select[*tuple[Any, ...]]
        rows = replace(self, lock=None).apply_to(select(*key, *order)).correlate(None)
        return select(*list(rows.subquery().c)[: len(key)]) if self.is_distinct else rows

    def key_column(self) -> Any:
        """Return the column, or tuple of columns, to compare with :meth:`keys`."""
        key = primary_key(self.mapper)
        return key[0] if len(key) == 1 else tuple_(*key)

    def count(self) -> Select[int]:
        if self.is_sliced or self.is_distinct:
            keys = self.keys() if self.is_sliced else self.keys().distinct()
            counted = select(func.count()).select_from(keys.subquery())
        else:
            counted = select(func.count()).select_from(self.model).where(*self.where)
        return counted.options(*self.options)

    def exists(self) -> Select[bool]:
        return select(exists(self.keys())).options(*self.options)

    def apply_to(self, statement: Any) -> Any:
        """Return ``statement``, a SELECT from the model, with conditions, order and slice."""
        statement = statement.where(*self.where).order_by(*as_expressions(self.order))
        if self.is_distinct:
            statement = statement.distinct()
        if self.limit is not None:
            statement = statement.limit(self.limit)
        if self.offset is not None:
            statement = statement.offset(self.offset)
        if self.lock is not None:
            # Lock no rows of joined relations: PostgreSQL refuses the nullable side of an outer
            # join.
            statement = statement.with_for_update(**self.lock, of=self.model)
        return statement


def _is_of_another(element: Any, tables: Sequence[FromClause]) -> bool:
    """Return whether the expression uses a column of a table outside of ``tables``."""
    if not isinstance(element, ClauseElement):
        attribute = getattr(element, "__clause_element__", None)
        # A lambda has none: its SQL is unknown before the call.
        return attribute is None or _is_of_another(attribute(), tables)
    if isinstance(element, SelectBase | ScalarSelect | Exists):
        return False
    if isinstance(element, ColumnClause):
        return element.table is not None and element.table not in tables
    return any(_is_of_another(child, tables) for child in element.get_children())


def _by_key(mapper: Mapper[Any]) -> tuple[Any, ...]:
    names, key = simple_columns(mapper), primary_key(mapper)
    return tuple(
        Ordering(names[attribute.key], is_descending=False) if attribute.key in names else attribute
        for attribute in key
    )


def _opposite(order: Any) -> Any:
    if isinstance(order, Ordering):
        return order.opposite
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


def _remove_modifiers(order: Any) -> Any:
    is_modified = isinstance(order, UnaryExpression) and order.modifier in _ORDERS
    return _remove_modifiers(order.element) if is_modified else order


_KEY: Final = "asgi_dbconn.statements"
_MOST: Final = 256
"""Statements kept for one mapped class. An application has some tens; more are made on the way."""


def cached_statement(
    query: Query[T], what: Hashable, build: Callable[[Query[T]], S]
) -> tuple[S, Mapping[str, Any] | None]:
    """Return the statement that ``build`` makes of ``query``, with its parameters.

    ``what`` is everything else that the statement depends on. If the query consists of names
    and values, ``build`` is called once per cache key, with a query without the values.
    """
    shape = query.cache_key
    if shape is None:
        return build(query), None
    statements: dict[Hashable, S] = memoize(query.mapper, _KEY, _no_statements)
    key = (what, shape)
    statement = statements.get(key)
    if statement is None:
        statement = build(query.without_values())
        if len(statements) >= _MOST:
            statements.clear()
        # SQLAlchemy stores the cache key on the statement. A statement that is used again is found
        # in the compiled cache at a fifth of the cost.
        statements[key] = statement
    return statement, query.values


def _no_statements(_: Mapper[Any]) -> dict[Hashable, Any]:
    return {}
