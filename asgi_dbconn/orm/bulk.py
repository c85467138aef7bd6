"""``bulk_create`` and ``bulk_update``: many rows by lists of values, without a Session's look at
each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final

from sqlalchemy import Column, TextClause, select, text, tuple_, update
from sqlalchemy import insert as insert_into
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state, set_committed_value
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.sql.base import ExecutableOption

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.bulk_rows import RowReader
from asgi_dbconn.orm.loaded_objects import find_numbered_key, note_number, note_states
from asgi_dbconn.orm.lookups import primary_key
from asgi_dbconn.orm.object_loading import session_for
from asgi_dbconn.orm.object_undo import (
    ABSENT,
    ObjectUndo,
    note_change,
    remove_unknown,
    unknown_of,
)
from asgi_dbconn.orm.origin import Origin, set_origin
from asgi_dbconn.orm.parameters import is_one_of
from asgi_dbconn.pools.undo_log import UndoLog, undo_log_of

__all__ = ["BATCH", "BulkInsert", "BulkUpdate", "insert", "insert_returning", "update_by_key"]

BATCH: Final = 1000
"""Rows in one statement, where several are sent in one."""
_INSERTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


class BulkInsert:
    """The rows to be inserted, and what happens to rows that exist already.

    Raises ConfigurationError or FieldError for what cannot be.
    """

    def __init__(
        self,
        mapper: Mapper[Any],
        rows: Iterable[Any],
        *,
        ignore_conflicts: bool,
        update_conflicts: Sequence[str],
        unique_fields: Sequence[str],
        batch_size: int,
    ) -> None:
        reader = RowReader(mapper)
        self.mapper = mapper
        self.ignores = ignore_conflicts
        self.updates = [reader.column(field) for field in update_conflicts]
        self.unique = [reader.column(field) for field in unique_fields]
        self._check()
        self.rows = [self._check_values(reader.values_of(row)) for row in rows]
        self.references = tuple(reader.references)
        self.how: Mapping[str, Any] = {"insertmanyvalues_page_size": _check_size(batch_size)}

    @property
    def has_conflicts(self) -> bool:
        return self.ignores or bool(self.updates)

    def statement(self, dialect: Dialect) -> Any:
        """Return an INSERT of one row, with its conflict clause, to be executed with all rows."""
        if not self.has_conflicts:
            return insert_into(self.mapper.class_)
        make = _INSERTS.get(dialect.name)
        if make is None:
            raise ConfigurationError(f"{dialect.name} has no ON CONFLICT.")
        statement: Any = make(self.mapper.class_)
        unique = [self._column(name) for name in self.unique]
        if self.ignores:
            # Without names: the conflict may be on any constraint.
            return statement.on_conflict_do_nothing(index_elements=unique or None)
        return statement.on_conflict_do_update(
            index_elements=unique or list(self.mapper.primary_key),
            set_=dict(self._new_values(statement.excluded, dialect)),
        )

    def _new_values(self, excluded: Any, dialect: Dialect) -> Iterator[tuple[Column[Any], Any]]:
        chosen = [self._column(name) for name in self.updates]
        for column in chosen:
            yield column, excluded[column.key]
        # SQLAlchemy applies no `onupdate` to an upsert, although it is an UPDATE.
        table: Any = self.mapper.local_table
        for column in table.columns:
            if column.onupdate is not None and not any(column is updated for updated in chosen):
                yield column, _on_update(column, dialect)

    def _column(self, name: str) -> Any:
        return self.mapper.column_attrs[name].columns[0]

    def _check(self) -> None:
        name = self.mapper.class_.__name__
        if self.ignores and self.updates:
            raise ConfigurationError(
                "bulk_create() either ignores rows that are there already or updates them: give "
                "ignore_conflicts or update_conflicts."
            )
        if self.unique and not self.has_conflicts:
            raise ConfigurationError(
                "unique_fields say which rows are there already, and nothing says what to do about "
                "them. Give ignore_conflicts or update_conflicts, too."
            )
        if self.has_conflicts and len(self.mapper.tables) > 1:
            raise ConfigurationError(
                f"A {name} has rows in several tables, and a conflict is settled in one. Insert "
                "them without ignore_conflicts and update_conflicts."
            )

    def _check_values(self, row: dict[str, Any]) -> dict[str, Any]:
        for name in self.updates:
            if name not in row:
                raise ConfigurationError(
                    f"update_conflicts names {name!r}, and a row without it would overwrite what "
                    "is stored with nothing. Give each row that field."
                )
        return row


class BulkUpdate:
    """Some fields of many stored objects, to be updated by primary key.

    Raises ConfigurationError or FieldError for what cannot be.
    """

    def __init__(
        self, mapper: Mapper[Any], objects: Iterable[Any], fields: Sequence[str], *, batch_size: int
    ) -> None:
        if isinstance(fields, str) or not fields:
            raise ConfigurationError(
                f"bulk_update() takes a list of at least one field, not {fields!r}."
            )
        if mapper.version_id_col is not None:
            raise ConfigurationError(
                f"{mapper.class_.__name__} counts versions, which bulk_update() would not compare. "
                "save() the objects one by one."
            )
        reader = RowReader(mapper)
        self.mapper = mapper
        self.names = [reader.column(field) for field in fields]
        self.batch_size = _check_size(batch_size)
        self.key = [attribute.key for attribute in primary_key(mapper)]
        if not set(self.key).isdisjoint(self.names):
            raise ConfigurationError(
                "bulk_update() finds the rows by their primary key, so it cannot change that."
            )
        self._objects = list(objects)
        self._given = [self._row(instance) for instance in self._objects]
        self.references = tuple(map(instance_state, self._objects))
        self.rows = self._given

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.key)

    def batches(self, dialect: Dialect) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows in the order of their keys.

        Two tasks that lock the same rows in different orders would deadlock.
        """
        try:
            rows = sorted(self.rows, key=self.key_of)
        except TypeError:  # a type without an order in Python
            rows = sorted(self.rows, key=partial(self._sent_key, dialect))
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]

    def _sent_key(self, dialect: Dialect, row: Mapping[str, Any]) -> list[Any]:
        """Return the key as the driver gets it."""
        sent = []
        for column, value in zip(self.mapper.primary_key, self.key_of(row), strict=True):
            process = column.type.dialect_impl(dialect).bind_processor(dialect)
            sent.append(value if process is None else process(value))
        return sent

    def mark_stored(self, stored: Set[tuple[Any, ...]], log: UndoLog | None) -> None:
        """Mark the fields as committed on the objects, or the next save() would send them again.

        ``stored``: the primary keys of the rows that exist. Other objects keep their changes.
        ``log`` belongs to the transaction whose rollback undoes this. Values set after the rows
        were read stay changes.
        """
        for instance, row in zip(self._objects, self._given, strict=True):
            if self.key_of(row) not in stored:
                continue
            state, present = instance_state(instance), instance_dict(instance)
            if log is not None:
                originals = dict(state.committed_state)
                note_change(log.level, state, ObjectUndo(state, originals))
            for name in self.names:
                if present.get(name) is row[name]:
                    set_committed_value(instance, name, row[name])
                else:
                    state.committed_state[name] = row[name]
            if unknown_of(state):
                remove_unknown(state, self.names)

    def _row(self, instance: Any) -> dict[str, Any]:
        row = {name: getattr(instance, name) for name in (*self.key, *self.names)}
        if None in self.key_of(row):
            raise ConfigurationError(
                f"This {type(instance).__name__} has no primary key, so it is not stored yet. "
                "bulk_create() is for new ones."
            )
        return row


def insert(connection: Connection, _: Origin, *, plan: BulkInsert) -> int:
    """Insert the rows. Return how many were inserted or changed."""
    statement = plan.statement(connection.dialect)
    with session_for(connection) as session:
        if not plan.has_conflicts:
            session.execute(statement, plan.rows)
            return len(plan.rows)
        # Count the returned rows: no driver reports how many were left out.
        statement = statement.returning(plan.mapper.primary_key[0])
        return len(session.execute(statement, plan.rows, execution_options=plan.how).all())


def insert_returning(connection: Connection, origin: Origin, *, plan: BulkInsert) -> list[Any]:
    """Insert the rows. Return their objects, without conflicts in the order of the rows."""
    # The key of a row that existed before says nothing about the order.
    statement = plan.statement(connection.dialect).returning(
        plan.mapper.class_, sort_by_parameter_order=not plan.has_conflicts
    )
    how = {**plan.how, "populate_existing": True}
    with session_for(connection) as session:
        objects = list(session.scalars(statement, plan.rows, execution_options=how))
    for instance in objects:
        set_origin(instance, origin)
    log = undo_log_of(connection)
    if log is not None:
        _note_inserted(connection, log, objects, plan)
    return objects


def _note_inserted(
    connection: Connection, log: UndoLog, objects: Sequence[Any], plan: BulkInsert
) -> None:
    """Make the objects new again after a rollback, with the values given for their rows."""
    numbered = find_numbered_key(plan.mapper)
    given = frozenset(name for row in plan.rows for name in row)
    for position, instance in enumerate(objects):
        state: Any = instance_state(instance)
        present = instance_dict(instance)
        if plan.updates:  # some rows existed before, and it is unknown which
            note_change(log.level, state, ObjectUndo(state, dict.fromkeys(plan.updates, NO_VALUE)))
            continue
        names = given if plan.has_conflicts else plan.rows[position].keys()
        filled = dict.fromkeys(present.keys() & state.manager.keys() - names, ABSENT)
        undo = ObjectUndo(state, {}, filled)
        undo.was_new()
        note_change(log.level, state, undo)
        if numbered in filled:
            note_number(connection, log.level, plan.mapper, state.key[1])
    if plan.updates:
        note_states(log, [instance_state(instance) for instance in objects], log.level)


def update_by_key(
    connection: Connection,
    _: Origin,
    *,
    changes: BulkUpdate,
    criteria: Sequence[ExecutableOption],
) -> int:
    """Run one UPDATE per existing row that ``criteria`` let through. Return their number."""
    columns = primary_key(changes.mapper)
    key: Any = columns[0] if len(columns) == 1 else tuple_(*columns)
    changed: set[tuple[Any, ...]] = set()
    with session_for(connection) as session:
        for batch in changes.batches(connection.dialect):
            keys = [changes.key_of(row) for row in batch]
            # Lock and find the rows first: no driver counts the changes of an executemany().
            values = keys if len(columns) > 1 else [value for (value,) in keys]
            stored = select(*columns).where(is_one_of(key, values))
            stored = stored.order_by(*columns).with_for_update().options(*criteria)
            found = session.execute(stored)
            there = {tuple(row) for row in found}
            rows = [row for row in batch if changes.key_of(row) in there]
            if rows:
                session.execute(update(changes.mapper.class_), rows)
            changed |= there
    changes.mark_stored(changed, undo_log_of(connection))
    return len(changed)


def _on_update(column: Column[Any], dialect: Dialect) -> Any:
    default: Any = column.onupdate
    if default.is_callable:
        return default.arg(None)
    if dialect.name != "postgresql" or not isinstance(default.arg, TextClause):
        return default.arg
    # PostgreSQL finds a bare `edits + 1` ambiguous, because the row that was refused has such a
    # column, too. Inside a subquery over the stored row it is not.
    table: Any = column.table
    stored = dialect.identifier_preparer.quote(table.name)
    # Both are the project's own words: the name of a table, and what it says of its column.
    expression = f"(SELECT {default.arg.text} FROM (SELECT {stored}.*) AS stored)"  # noqa: S608
    return text(expression).bindparams(*default.arg._bindparams.values())


def _check_size(rows: int) -> int:
    if type(rows) is not int or rows < 1:
        raise ConfigurationError(f"batch_size is at least 1 row, not {rows!r}.")
    return rows
