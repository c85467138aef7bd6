"""Read plans: how a model is loaded without a Session, if it can be.

A Session spends most of a short read on work that a plain table does not need: an identity map,
transactions of its own, loader strategies for each attribute, events. Where a model loads only the
columns of one table by default, selecting them and making instances from the rows makes the same
objects in less than half the time. Every other model takes the Session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Column, Executable, Select, Table, bindparam, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import ColumnProperty, Mapper

from asgi_dbconn.orm.fast_path import AVAILABLE
from asgi_dbconn.orm.fast_path.execution import execute
from asgi_dbconn.orm.fast_path.hydration import Hydrator, has_load_listeners, memoize
from asgi_dbconn.orm.loaded_objects import note_loaded
from asgi_dbconn.orm.parameters import bounds_of

__all__ = ["ReadPlan", "plain_attributes", "read_plan"]

T = TypeVar("T")

_KEY: Final = "asgi_dbconn.plan"
# Strategies that load nothing until the attribute is read. Any other loads through a Session.
_LAZY: Final = frozenset({"select", True, "raise", "raise_on_sql", "dynamic", "write_only"})


class ReadPlan(Generic[T]):
    """Reads a model without a Session. Immutable: any task, thread and loop may use it."""

    __slots__ = ("_by_key", "_hydrator", "_key_names", "columns", "key_bounds", "selection")

    def __init__(self, mapper: Mapper[T], attributes: Mapping[str, Column[Any]]) -> None:
        self.columns: tuple[Column[Any], ...] = tuple(attributes.values())
        """The columns that a statement for :meth:`objects` selects, in this order."""
        # By identity: comparing columns with == makes an expression.
        positions = {id(column): number for number, column in enumerate(self.columns)}
        key = [positions[id(column)] for column in mapper.primary_key]
        self.key_bounds = tuple(bounds_of(column) for column in mapper.primary_key)
        """The integers that each column of the key holds; None where it holds others."""
        self._hydrator = Hydrator(mapper, tuple(attributes), key)
        self.selection: Select[*tuple[Any, ...]] = select(*self.columns)
        """A SELECT of all rows; its conditions and order may be expressions of the ORM."""
        self._key_names = tuple(f"pk_{number}" for number in range(len(mapper.primary_key)))
        self._by_key = self.selection.where(
            *(
                column == bindparam(name, type_=column.type)
                for column, name in zip(mapper.primary_key, self._key_names, strict=True)
            )
        )

    def by_key(self, key: Sequence[Any]) -> tuple[Select[*tuple[Any, ...]], Mapping[str, Any]]:
        """Return the statement for the object with this primary key, and its parameters.

        The key is plain values, within :attr:`key_bounds`, in the order of the table's primary key.
        The statement is always the same.
        """
        return self._by_key, dict(zip(self._key_names, key, strict=True))

    def objects(self, rows: Sequence[Sequence[Any]], token: object) -> list[T]:
        """Return detached instances, one per identity, with the identity token ``token``."""
        return self._hydrator.objects(rows, token)

    def load(
        self,
        connection: Connection,
        statement: Executable,
        parameters: Mapping[str, Any] | None,
        token: object,
    ) -> list[T]:
        """Return the objects that ``statement`` selects."""
        answer = execute(connection, statement, parameters)
        objects = self._hydrator.objects(answer.rows, token)
        if not answer.is_committed:
            # Rows of outer joins may have no key. They give None.
            note_loaded(connection, [found for found in objects if found is not None])
        return objects


def read_plan(mapper: Mapper[T]) -> ReadPlan[T] | None:
    """Return the plan for this class, or None if it takes a Session.

    Ask for every query: properties, subclasses and listeners may be added at any time.
    Costs a microsecond.
    """
    plan: ReadPlan[T] | None = memoize(mapper, _KEY, _plan)
    return None if plan is None or has_load_listeners(mapper) else plan


def _plan(mapper: Mapper[T]) -> ReadPlan[T] | None:
    if not AVAILABLE:
        return None
    attributes = plain_attributes(mapper)
    is_lazy = all(relationship.lazy in _LAZY for relationship in mapper.relationships)
    return ReadPlan(mapper, attributes) if is_lazy and attributes is not None else None


def plain_attributes(mapper: Mapper[Any]) -> dict[str, Column[Any]] | None:
    """Return the column attributes and their columns, if an object is one row of one table."""
    is_alone = (
        mapper.inherits is None
        and mapper.polymorphic_on is None
        and len(mapper.self_and_descendants) == 1
    )
    if not (is_alone and isinstance(mapper.local_table, Table)):
        return None
    attributes: dict[str, Column[Any]] = {}
    for attribute in mapper.column_attrs:
        column = _plain_column(attribute, mapper.local_table)
        if column is None:
            return None
        attributes[attribute.key] = column
    columns = set(attributes.values())
    # Two attributes of one column: the ORM selects it once, which would shift the values.
    is_one_to_one = len(columns) == len(attributes)
    return attributes if is_one_to_one and columns.issuperset(mapper.primary_key) else None


def _plain_column(attribute: ColumnProperty[Any], table: Table) -> Column[Any] | None:
    (column, *others) = attribute.columns
    if others or attribute.deferred or not attribute.instrument:
        return None
    return column if isinstance(column, Column) and column.table is table else None
