"""Many rows at once: lists of values instead of objects that a Session would look at one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import insert as insert_into
from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_dict

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.loading import session_for
from asgi_dbconn.orm.lookups import field, primary_key
from asgi_dbconn.orm.place import Origin
from asgi_dbconn.orm.storing import remember

__all__ = [
    "BATCH",
    "Insertion",
    "insert",
    "insert_returning",
    "key_and_values",
    "update_by_key",
    "values_of",
]

BATCH: Final = 1000
"""Rows in one statement."""
_MOST_PARAMETERS: Final = 32_000  # in one statement, for PostgreSQL and SQLite alike
_CONFLICTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}

Rows = list[dict[str, Any]]


class Insertion:
    """What is to be inserted, and what happens to rows that are there already.

    Raises ConfigurationError or FieldError for what cannot be.
    """

    def __init__(
        self,
        mapper: Mapper[Any],
        rows: Rows,
        *,
        ignore_conflicts: bool,
        update_conflicts: Sequence[str],
        unique_fields: Sequence[str],
        batch_size: int,
    ) -> None:
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is at least 1 row, not {batch_size!r}.")
        if ignore_conflicts and update_conflicts:
            raise ConfigurationError(
                "bulk_create() either ignores rows that are there already or updates them: give "
                "ignore_conflicts or update_conflicts."
            )
        self.mapper = mapper
        self.rows = rows
        self.ignores = ignore_conflicts
        self.updates = [field(mapper, each).key for each in update_conflicts]
        self.unique = [field(mapper, each) for each in unique_fields] or primary_key(mapper)
        self.batch_size = batch_size
        if self.has_conflicts:
            self._check()

    @property
    def has_conflicts(self) -> bool:
        return self.ignores or bool(self.updates)

    def batches(self) -> Iterator[Rows]:
        """So many rows at a time that one statement can hold them."""
        columns = max((len(each) for each in self.rows), default=1)
        size = max(min(self.batch_size, _MOST_PARAMETERS // max(columns, 1)), 1)
        for start in range(0, len(self.rows), size):
            yield self.rows[start : start + size]

    def statement(self, dialect: str, batch: Rows) -> Any:
        """One INSERT for ``batch``, with its conflict clause."""
        make = _CONFLICTS.get(dialect)
        if make is None:
            raise ConfigurationError(f"{dialect} has no ON CONFLICT.")
        statement: Any = make(self.mapper.class_).values(batch)
        if self.ignores:
            return statement.on_conflict_do_nothing()
        columns = {name: _column(self.mapper, name) for name in self.updates}
        return statement.on_conflict_do_update(
            index_elements=[each.property.columns[0] for each in self.unique],
            set_={column: statement.excluded[column.key] for column in columns.values()},
        )

    def _check(self) -> None:
        if len(self.mapper.tables) > 1:
            raise ConfigurationError(
                f"A {self.mapper.class_.__name__} has rows in several tables, and a conflict is "
                "settled in one. Insert them without ignore_conflicts and update_conflicts."
            )
        if len({frozenset(each) for each in self.rows}) > 1:
            raise ConfigurationError(
                "Rows that may be there already go out in one statement, so all of them need the "
                "same fields. Give each row every field."
            )


def values_of(mapper: Mapper[Any], row: Any) -> dict[str, Any]:
    """The values of a dict, or of an object that is not stored yet."""
    if isinstance(row, Mapping):
        return {field(mapper, name).key: value for name, value in row.items()}
    present = instance_dict(row)
    return {each.key: present[each.key] for each in mapper.column_attrs if each.key in present}


def key_and_values(mapper: Mapper[Any], instance: object, names: Sequence[str]) -> dict[str, Any]:
    """What an UPDATE of these fields by primary key needs."""
    keys = [each.key for each in primary_key(mapper)]
    return {name: getattr(instance, name) for name in (*keys, *names)}


def insert(
    connection: Connection, options: Mapping[str, Any], _: Origin, *, plan: Insertion
) -> int:
    """How many rows were stored, changed ones included."""
    stored = 0
    with session_for(connection, options) as session:
        for batch in plan.batches():
            if plan.has_conflicts:
                statement = plan.statement(connection.dialect.name, batch)
                # Counted by what comes back: no driver counts the rows that were left out.
                key = primary_key(plan.mapper)[0]
                stored += len(session.execute(statement.returning(key)).all())
            else:
                session.execute(insert_into(plan.mapper.class_), batch)
                stored += len(batch)
    return stored


def insert_returning(
    connection: Connection, options: Mapping[str, Any], origin: Origin, *, plan: Insertion
) -> list[Any]:
    """The stored objects, in the order of the rows."""
    objects: list[Any] = []
    with session_for(connection, options) as session:
        for batch in plan.batches():
            objects += _returned(session, connection.dialect.name, plan, batch)
        session.expunge_all()
    for each in objects:
        remember(each, origin)
    return objects


def update_by_key(
    connection: Connection,
    options: Mapping[str, Any],
    _: Origin,
    *,
    mapper: Mapper[Any],
    rows: Rows,
    batch_size: int,
) -> int:
    """One UPDATE, executed for every row."""
    with session_for(connection, options) as session:
        for start in range(0, len(rows), batch_size):
            session.execute(update(mapper.class_), rows[start : start + batch_size])
    return len(rows)


def _returned(session: Session, dialect: str, plan: Insertion, batch: Rows) -> Sequence[Any]:
    model = plan.mapper.class_
    if plan.has_conflicts:
        statement = plan.statement(dialect, batch).returning(model)
        return session.scalars(statement, execution_options={"populate_existing": True}).all()
    statement = insert_into(model).returning(model, sort_by_parameter_order=True)
    return session.scalars(statement, batch).all()


def _column(mapper: Mapper[Any], name: str) -> Any:
    return mapper.column_attrs[name].columns[0]
