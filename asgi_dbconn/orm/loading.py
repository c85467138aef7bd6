"""Work done on one connection, on the synchronous side of the greenlet: objects in and out.

Each verb gets a Session of its own that ends with it, so objects come back detached and complete:
nothing is shared between two queries, and nothing is loaded behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Delete, Executable, Select, Update
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.orm import Mapper, Session, object_mapper, selectin_polymorphic
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.sql.base import ExecutableOption

__all__ = ["affected", "insert", "is_one_statement", "load", "scalar", "whole_objects"]

T = TypeVar("T")


def load(connection: Connection, statement: Select[Any]) -> Sequence[Any]:
    """The objects that ``statement`` selects, each once."""
    with _session(connection) as session:
        objects = session.execute(statement).scalars().unique().all()
        session.expunge_all()
    return objects


def scalar(connection: Connection, statement: Executable) -> Any:
    """The one value that ``statement`` selects."""
    return connection.execute(statement).scalar_one()


def affected(connection: Connection, statement: Update | Delete) -> int:
    """How many rows ``statement`` changed."""
    with _session(connection) as session:
        result = session.execute(statement, execution_options={"synchronize_session": False})
        return result.rowcount if isinstance(result, CursorResult) else 0


def insert(connection: Connection, instance: T) -> T:
    """``instance``, stored, with what the database filled in."""
    mapper = object_mapper(instance)
    with _session(connection) as session:
        session.add(instance)
        session.flush()
        _note_nulls(mapper, instance)
        # What the database filled in came back with the INSERT, where it has RETURNING.
        missing = _complete(mapper) & instance_state(instance).unloaded
        if missing:
            session.refresh(instance, missing)
        session.expunge_all()
    return instance


def _note_nulls(mapper: Mapper[Any], instance: object) -> None:
    """What was left out was inserted as NULL; SQLAlchemy would SELECT it to know."""
    for key in _complete(mapper) & instance_state(instance).unloaded:
        (column, *_) = mapper.column_attrs[key].columns
        if isinstance(column, Column) and not (
            column.primary_key or column.default or column.server_default or column.foreign_keys
        ):
            # Not setattr: that would call validators, and mean 'null' to a JSON column.
            set_committed_value(instance, key, None)


def _complete(mapper: Mapper[Any]) -> set[str]:
    """The attributes that an object has to have to count as complete."""
    return {attribute.key for attribute in mapper.column_attrs if not attribute.deferred}


def whole_objects(mapper: Mapper[Any]) -> list[ExecutableOption]:
    """Options that load the columns of subclasses, too: a detached object cannot do so later."""
    subclasses = [each.class_ for each in mapper.self_and_descendants if each is not mapper]
    if not subclasses or mapper.with_polymorphic:
        return []
    return [selectin_polymorphic(mapper.class_, subclasses)]


def is_one_statement(mapper: Mapper[Any]) -> bool:
    """Whether loading objects of this class by default takes a single SELECT."""
    return not any(
        relation.lazy in ("selectin", "subquery", "immediate")
        for each in mapper.self_and_descendants
        for relation in each.relationships
    ) and not whole_objects(mapper)


def _session(connection: Connection) -> Session:
    # The connection's owner has begun the transaction and will commit it. A failed flush rolls it
    # back here already; closing the session leaves it alone.
    return Session(
        connection, autoflush=False, expire_on_commit=False, join_transaction_mode="rollback_only"
    )
