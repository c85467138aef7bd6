"""Which models can be loaded without a Session, and how: the fast path of reading.

A Session spends most of a short read on what a plain table has no use for: an identity map,
transactions of its own, loader strategies for each attribute, events. Where all that a model loads
by default is the columns of one table, selecting them and making instances out of the rows gives
the same objects in less than half the time. Everything else takes the path through the Session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Column, Executable, Select, Table, bindparam, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import ColumnProperty, Mapper

from asgi_dbconn.orm.hydration import Hydrator, is_overheard, notes_on

__all__ = ["Plan", "plan_of"]

T = TypeVar("T")

_KEY: Final = "asgi_dbconn.plan"
# What loads nothing before it is asked for. Anything new in SQLAlchemy loads through a Session.
_LAZY: Final = frozenset({"select", True, "raise", "raise_on_sql", "dynamic", "write_only"})


class Plan(Generic[T]):
    """How one model is read plainly. Immutable: may be used by any task, thread and loop."""

    __slots__ = ("_by_key", "_hydrator", "_key_names", "_statement", "columns")

    def __init__(self, mapper: Mapper[T], attributes: Mapping[str, Column[Any]]) -> None:
        self.columns: tuple[Column[Any], ...] = tuple(attributes.values())
        """What a statement for :meth:`objects` selects, in this order."""
        # By identity: to compare columns with == makes an expression.
        positions = {id(column): number for number, column in enumerate(self.columns)}
        key = [positions[id(column)] for column in mapper.primary_key]
        self._hydrator = Hydrator(mapper, tuple(attributes), key)
        # SQLAlchemy keeps its cache key with a statement: one that is used again is found in the
        # cache of compiled statements at a fifth of the price.
        self._statement: Select[*tuple[Any, ...]] = select(*self.columns)
        self._key_names = tuple(f"pk_{number}" for number in range(len(mapper.primary_key)))
        self._by_key = self._statement.where(
            *(
                column == bindparam(name, type_=column.type)
                for column, name in zip(mapper.primary_key, self._key_names, strict=True)
            )
        )

    def select(
        self,
        where: Sequence[Any] = (),
        order: Sequence[Any] = (),
        limit: int | None = None,
        offset: int | None = None,
    ) -> Select[*tuple[Any, ...]]:
        """A SELECT of the columns. Conditions and order may be expressions of the ORM."""
        # Those make SQLAlchemy compile the statement by the ORM's rules, once for each form that
        # it takes. Freeing them from that costs as much for every query as it saves.
        statement = self._statement
        if where:
            statement = statement.where(*where)
        if order:
            statement = statement.order_by(*order)
        if limit is not None:
            statement = statement.limit(limit)
        if offset is not None:
            statement = statement.offset(offset)
        return statement

    def by_key(self, key: Sequence[Any]) -> tuple[Select[*tuple[Any, ...]], Mapping[str, Any]]:
        """The statement for the object with this primary key, and its parameters.

        The key is plain values, in the order of the table's. Always the same statement.
        """
        return self._by_key, dict(zip(self._key_names, key, strict=True))

    def objects(self, rows: Sequence[Sequence[Any]], token: object) -> list[T]:
        """Detached instances, each identity once; ``token`` is the identity token they get."""
        return self._hydrator.objects(rows, token)

    def load(
        self,
        connection: Connection,
        statement: Executable,
        parameters: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        token: object,
    ) -> list[T]:
        """The objects that ``statement`` selects, executed with these execution options."""
        result = connection.execute(statement, parameters, execution_options=options)
        return self._hydrator.objects(result.all(), token)


def plan_of(mapper: Mapper[T]) -> Plan[T] | None:
    """How to load objects of this class plainly; None where it takes a Session.

    To be asked for every query: properties, subclasses and listeners may be added at any time. The
    mapper has to be configured, as ``class_mapper()`` gives it. Costs a microsecond.
    """
    made = notes_on(mapper).get(_KEY)
    if made is None or made[0] is not mapper.attrs:
        made = _plan_now(mapper)
    return None if made[1] is None or is_overheard(mapper) else made[1]


def _plan_now(mapper: Mapper[T]) -> tuple[object, Plan[T] | None]:
    # A mapper makes a new `attrs` when a property or a subclass is added, to itself or below it.
    # Looked at first: what comes in between makes the plan one of the past, and not a wrong one.
    made_of = mapper.attrs
    attributes = _plain_attributes(mapper)
    made = (made_of, None if attributes is None else Plan(mapper, attributes))
    notes_on(mapper)[_KEY] = made  # two threads at once may both make one: they are equal
    return made


def _plain_attributes(mapper: Mapper[Any]) -> dict[str, Column[Any]] | None:
    """Attributes and their columns, if that is all that is loaded by default."""
    is_alone = (
        mapper.inherits is None
        and mapper.polymorphic_on is None
        and len(mapper.self_and_descendants) == 1
    )
    is_lazy = all(relation.lazy in _LAZY for relation in mapper.relationships)
    if not (is_alone and is_lazy and isinstance(mapper.local_table, Table)):
        return None
    attributes: dict[str, Column[Any]] = {}
    for attribute in mapper.column_attrs:
        column = _plain_column(attribute, mapper.local_table)
        if column is None:
            return None
        attributes[attribute.key] = column
    columns = set(attributes.values())
    # Two attributes of one column: the ORM selects it once, and the values would be misplaced.
    is_one_to_one = len(columns) == len(attributes)
    return attributes if is_one_to_one and columns.issuperset(mapper.primary_key) else None


def _plain_column(attribute: ColumnProperty[Any], table: Table) -> Column[Any] | None:
    (column, *others) = attribute.columns
    if others or attribute.deferred or not attribute.instrument:
        return None
    return column if isinstance(column, Column) and column.table is table else None
