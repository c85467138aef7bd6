"""Objects into the database: work on one connection, on the greenlet's synchronous side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Delete, Update
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.orm import Mapper, Session, object_mapper
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from asgi_dbconn.orm.loading import session_for
from asgi_dbconn.orm.place import Origin

__all__ = ["affected", "change", "insert", "refresh", "remember", "remove"]

T = TypeVar("T")


def affected(
    connection: Connection, options: Mapping[str, Any], _: Origin, *, statement: Update | Delete
) -> int:
    """How many rows ``statement`` changed."""
    with session_for(connection, options) as session:
        result = session.execute(statement, execution_options={"synchronize_session": False})
        return result.rowcount if isinstance(result, CursorResult) else 0


def insert(connection: Connection, options: Mapping[str, Any], origin: Origin, *, instance: T) -> T:
    """``instance``, stored, with what the database filled in."""
    mapper = object_mapper(instance)
    with session_for(connection, options) as session:
        session.add(instance)
        session.flush()
        _note_nulls(mapper, instance)
        # What the database filled in came back with the INSERT, where it has RETURNING.
        _complete(session, mapper, instance)
        session.expunge_all()
    remember(instance, origin)
    return instance


def change(
    connection: Connection, options: Mapping[str, Any], _: Origin, *, instance: object
) -> None:
    """One UPDATE of what was changed on ``instance``; none if nothing was."""
    with session_for(connection, options) as session:
        session.add(instance)
        session.flush()
        _complete(session, object_mapper(instance), instance)
        session.expunge_all()


def remove(
    connection: Connection, options: Mapping[str, Any], _: Origin, *, instance: object
) -> None:
    """``instance``, deleted, with the cascades of its relationships."""
    with session_for(connection, options) as session:
        session.add(instance)
        session.delete(instance)
        session.flush()


def refresh(
    connection: Connection,
    options: Mapping[str, Any],
    _: Origin,
    *,
    instance: object,
    names: Sequence[str],
) -> None:
    """Load ``names``, or every column, of ``instance`` anew."""
    with session_for(connection, options) as session:
        session.add(instance)
        session.refresh(instance, list(names) or _columns(object_mapper(instance)))
        session.expunge_all()


def _complete(session: Session, mapper: Mapper[Any], instance: object) -> None:
    missing = set(_columns(mapper)) & instance_state(instance).unloaded
    if missing:
        session.refresh(instance, missing)


def _note_nulls(mapper: Mapper[Any], instance: object) -> None:
    """What was left out was inserted as NULL; SQLAlchemy would SELECT it to know."""
    for key in set(_columns(mapper)) & instance_state(instance).unloaded:
        (column, *_) = mapper.column_attrs[key].columns
        if isinstance(column, Column) and not (
            column.primary_key or column.default or column.server_default or column.foreign_keys
        ):
            # Not setattr: that would call validators, and mean 'null' to a JSON column.
            set_committed_value(instance, key, None)


def _columns(mapper: Mapper[Any]) -> Iterable[str]:
    """The attributes that an object has to have to count as complete."""
    return [attribute.key for attribute in mapper.column_attrs if not attribute.deferred]


def remember(instance: object, origin: Origin) -> None:
    """Note on a stored object where it is stored."""
    state = instance_state(instance)
    if origin is not None and state.key is not None:
        state.identity_token = origin
        state.key = (*state.key[:2], origin)
