"""Write plans: how an object is stored without a Session, if it can be.

A Session spends most of a short write on finding out that there is nothing to do: no relations, no
order among tables, no listeners. Where an object is one row of one table, without cascades, the
same statement, executed immediately, leaves it as the Session would, in half the time. Every other
object takes the Session. A column has a record of all that storing needs to know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    Column,
    Delete,
    Insert,
    Table,
    TypeDecorator,
    Update,
    bindparam,
    delete,
    insert,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Mapper, object_mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.exc import FlushError
from sqlalchemy.types import UserDefinedType

from asgi_dbconn.orm.fast_path import AVAILABLE
from asgi_dbconn.orm.fast_path.execution import Result, execute
from asgi_dbconn.orm.fast_path.hydration import has_store_listeners, is_orphan, memoize
from asgi_dbconn.orm.fast_path.read_plans import plain_attributes
from asgi_dbconn.orm.loaded_objects import find_numbered_key, note_number
from asgi_dbconn.orm.lookup_operators import is_expression
from asgi_dbconn.orm.object_undo import unknown_of
from asgi_dbconn.orm.origin import Origin
from asgi_dbconn.orm.store_lock import StoreLock
from asgi_dbconn.pools.undo_log import undo_log_of

__all__ = [
    "StoredColumn",
    "WritePlan",
    "has_own_idea_of_null",
    "make_stored_column",
    "write_plan",
]

T = TypeVar("T")


_OWN_IDEA_OF_NULL: Final = (TypeDecorator, UserDefinedType)


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column, as INSERT and UPDATE statements of a single row use it."""

    column: Column[Any]
    key: str
    """The name of its value among the parameters of a statement."""
    is_of_key: bool
    is_filled_in: bool
    """True if a new row needs no value for it: the database or a default has one."""
    is_null_if_left_out: bool
    stores_none: bool
    """True if None is stored as a value, as the null of JSON is."""
    has_server_default: bool
    is_asked_for: bool
    """True if only the database knows its value in a new row."""
    is_asked_for_again: bool
    """True if only the database knows its value in a changed row."""

    def takes(self, name: str, present: Mapping[str, Any], *, server_defaults: bool) -> bool:
        """Return whether the INSERT of these values has to return the column's value."""
        if self.is_of_key:
            return present.get(name) is None
        if self.has_server_default:
            return server_defaults  # RETURNING fetches all of them, or none
        return name not in present


def make_stored_column(column: Column[Any]) -> StoredColumn | None:
    """Return the StoredColumn of ``column``, or None if storing it takes more than a value."""
    default, on_update, is_of_key = column.default, column.onupdate, column.primary_key
    is_called = default is not None and (default.is_scalar or default.is_callable)
    is_counted = default is not None and default.is_sequence
    is_computed = default is not None and default.is_clause_element
    is_usual = (
        default is None
        or is_called
        or (is_counted and is_of_key)
        or (is_computed and not is_of_key)
    )
    if not is_usual or (on_update is not None and (is_of_key or on_update.is_sequence)):
        return None
    is_given_by_database = column.server_default is not None or is_computed
    stores_none = column.type.should_evaluate_none
    is_numbered = column.table.autoincrement_column is column
    return StoredColumn(
        column,
        key=column.key,
        is_of_key=is_of_key,
        is_filled_in=is_called or is_counted or is_given_by_database or is_numbered,
        is_null_if_left_out=not (
            is_of_key or column.server_default is not None or default is not None or stores_none
        ),
        stores_none=stores_none,
        has_server_default=is_given_by_database,
        is_asked_for=is_given_by_database
        or is_counted
        or is_numbered
        or (default is None and has_own_idea_of_null(column)),
        is_asked_for_again=column.server_onupdate is not None
        or (on_update is not None and on_update.is_clause_element),
    )


def has_own_idea_of_null(column: Any) -> bool:
    """Return whether the type may convert NULL to anything but None."""
    return isinstance(getattr(column, "type", None), _OWN_IDEA_OF_NULL)


Parameters = dict[str, Any]

_KEY: Final = "asgi_dbconn.storing_plan"
_EMPTY_COLLECTIONS: Final = (list, set, dict)


class WritePlan(Generic[T]):
    """Stores objects of one model without a Session.

    Immutable: any task, thread and loop may use it. ``new_row`` and ``changes`` decide before
    anything is sent. They return None if the Session has to store the object.
    """

    def __init__(self, mapper: Mapper[T], columns: Mapping[str, StoredColumn]) -> None:
        table: Any = mapper.local_table
        self._mapper = mapper
        self._columns = columns
        self._relations = frozenset(relationship.key for relationship in mapper.relationships)
        self._key = tuple(
            mapper.get_property_by_column(column).key for column in mapper.primary_key
        )
        self._numbered = find_numbered_key(mapper)
        self._changeable = columns.keys() - set(self._key)
        self._names = {column.column: name for name, column in columns.items()}
        self._to_be_given = frozenset(
            columns[name].key for name in self._key if not columns[name].is_filled_in
        )
        self._asked_for = {name: column for name, column in columns.items() if column.is_asked_for}
        self._with_server_default = frozenset(
            column.key for column in columns.values() if column.has_server_default
        )
        self._asked_for_again = {
            name: column for name, column in columns.items() if column.is_asked_for_again
        }
        self._needed_for_changes = {*self._key, *self._asked_for_again}
        self._has_defaults = any(column.default is not None for column in table.columns)
        self._has_on_update = any(column.onupdate is not None for column in table.columns)
        self._insert: Insert = insert(table)
        if self._asked_for:
            self._insert = self._insert.returning(
                *(column.column for column in self._asked_for.values())
            )
        self._key_names = tuple(f"asgi_dbconn_key_{number}" for number in range(len(self._key)))
        its_row = [
            column == bindparam(name, type_=column.type)
            for column, name in zip(mapper.primary_key, self._key_names, strict=True)
        ]
        self._update: Update = update(table).where(*its_row)
        if self._asked_for_again:
            self._update = self._update.returning(
                *(column.column for column in self._asked_for_again.values())
            )
        self._delete: Delete = delete(table).where(*its_row)

    def new_row(self, instance: T) -> Parameters | None:
        """Return the parameters of the INSERT of a new row."""
        present = instance_dict(instance)
        if self._has_relations(instance) or is_orphan(instance):
            return None
        parameters: Parameters = {}
        for name, column in self._columns.items():
            value = present.get(name)
            if value is not None:
                if is_expression(value):
                    return None
                parameters[column.key] = value
            elif column.is_null_if_left_out or (column.stores_none and name in present):
                parameters[column.key] = None
        return parameters if self._to_be_given.issubset(parameters) else None

    def changes(self, instance: T) -> Parameters | None:
        """Return the changes since ``instance`` was loaded, and the key of its row."""
        present, state = instance_dict(instance), instance_state(instance)
        originals = state.committed_state
        is_whole = present.keys() >= self._needed_for_changes
        if not (is_whole and originals.keys() <= self._changeable) or self._has_relations(instance):
            return None
        unknown = unknown_of(state) if vars(state).get("info") else ()
        parameters: Parameters = {}
        for name, original in originals.items():
            column = self._columns[name]
            if name not in present or is_expression(value := present[name]):
                return None
            if (
                original is NO_VALUE
                or name in unknown
                or column.column.type.compare_values(value, original) is not True
            ):
                parameters[column.key] = value
        key = [present[name] for name in self._key]
        return parameters | self._its_key(key) if parameters and None not in key else None

    def insert(
        self,
        connection: Connection,
        origin: Origin,
        *,
        lock: StoreLock,
        row: Parameters,
    ) -> None:
        """Insert the object, and set the values that the database filled in."""
        answer = execute(connection, self._insert, row)
        filled_in: Parameters = {}
        present = instance_dict(lock.instance)
        if self._asked_for:
            takes_all = not self._with_server_default.issubset(row)
            values = _only(answer.rows)
            for (name, column), value in zip(self._asked_for.items(), values, strict=True):
                if column.takes(name, present, server_defaults=takes_all):
                    filled_in[name] = value
        if self._has_defaults:
            filled_in |= self._called(answer)
        key = tuple([filled_in.get(name, present.get(name)) for name in self._key])
        if None in key and (not self._mapper.allow_partial_pks or set(key) == {None}):
            raise FlushError(
                f"The row of this {type(lock.instance).__name__} was stored without a primary key, "
                "so nothing can refer to it. Does the column have a default that gives one?"
            )
        for name in self._columns.keys() - present.keys():
            filled_in.setdefault(name, None)
        log = None if answer.is_committed else undo_log_of(connection)
        if log is not None and self._numbered in filled_in:
            note_number(connection, log.level, self._mapper, key)
        lock.finish((self._mapper.class_, key, origin), filled_in, log)

    def update(
        self,
        connection: Connection,
        origin: Origin,
        *,
        lock: StoreLock,
        changes: Parameters,
    ) -> bool:
        """Update the row of the object. Return whether it exists."""
        answer = execute(connection, self._update, changes)
        filled_in: Parameters = {}
        if self._asked_for_again:
            if len(answer.rows) != 1:
                return False
            values = answer.rows[0]
            for (name, column), value in zip(self._asked_for_again.items(), values, strict=True):
                if column.key not in changes:
                    filled_in[name] = value
        elif answer.rowcount != 1:
            return False
        if self._has_on_update:
            filled_in |= self._called(answer)
        log = None if answer.is_committed else undo_log_of(connection)
        identity = instance_state(lock.instance).identity or ()
        lock.finish((self._mapper.class_, identity, origin), filled_in, log)
        return True

    def delete(self, connection: Connection, instance: T) -> bool:
        """Delete the row that ``instance`` was loaded from. Return whether it existed."""
        key = self._its_key(instance_state(instance).identity or ())
        return execute(connection, self._delete, key).rowcount > 0

    def _has_relations(self, instance: T) -> bool:
        """Return whether an object may have cascades.

        An empty collection that was made with a new object has none.
        """
        present, changed = instance_dict(instance), instance_state(instance).committed_state
        if self._relations.isdisjoint(present) and self._relations.isdisjoint(changed):
            return False
        return any(
            not isinstance(present.get(name), _EMPTY_COLLECTIONS) or bool(present[name])
            for name in self._relations
            if name in present or name in changed
        )

    def _its_key(self, values: Any) -> Parameters:
        return dict(zip(self._key_names, values, strict=True))

    def _called(self, answer: Result) -> Parameters:
        return {
            self._names[column]: value
            for column, value in answer.name_columns().items()
            if column in self._names
        }


def write_plan(instance: T, *, is_new: bool) -> WritePlan[T] | None:
    """Return the plan for this object, or None if it takes a Session.

    Ask for every object.
    """
    mapper = object_mapper(instance)
    plan: WritePlan[T] | None = memoize(mapper, _KEY, _plan)
    return None if plan is None or has_store_listeners(mapper, is_new=is_new) else plan


def _only(rows: Sequence[Sequence[Any]]) -> Sequence[Any]:
    if len(rows) != 1:  # a trigger or a rule of the database has changed the outcome
        raise NoResultFound(f"{len(rows)} rows were stored when one was required")
    return rows[0]


def _plan(mapper: Mapper[T]) -> WritePlan[T] | None:
    attributes, table = plain_attributes(mapper), mapper.local_table
    if not AVAILABLE or attributes is None or not isinstance(table, Table):
        return None
    is_usual = (
        mapper.version_id_col is None
        and mapper.eager_defaults == "auto"
        and table.implicit_returning
        and set(table.primary_key.columns) == set(mapper.primary_key)
    )
    columns = {name: make_stored_column(column) for name, column in attributes.items()}
    usual = {name: column for name, column in columns.items() if column is not None}
    return WritePlan(mapper, usual) if is_usual and len(usual) == len(columns) else None
