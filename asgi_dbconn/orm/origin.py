"""The origin of an object: the database and the schema that it came from.

An object carries its origin as a label. Objects in a session of the user's own are SQLAlchemy's
plain objects meanwhile, so that a lookup by primary key finds them in that session. They get the
origin of the session's scope when the session lets them go.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import uuid4

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstanceState, Mapper, object_mapper
from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn.databases.commit_as_you_go import ScopeSession
from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError, UnknownDatabase
from asgi_dbconn.orm.binding import Binding
from asgi_dbconn.orm.cascades import check_is_not_being_stored
from asgi_dbconn.orm.flush_undo import FlushUndo
from asgi_dbconn.orm.loaded_objects import note_states
from asgi_dbconn.pools.undo_log import undo_log_of

__all__ = [
    "Origin",
    "describe",
    "is_shared",
    "location_of",
    "origin_in",
    "origin_of",
    "resolve_origin",
    "set_origin",
    "track_objects",
]


Origin = tuple[str | None, str | None] | None
"""Database and schema. None is the model's own database and no schema. It is the identity token of
the object, which survives detaching, pickling and copying."""

_DEFAULT: Final = ""
_STRANGER: Final = "\0"  # no database of a registry has such a name

# Databases that belong to no registry, by the label that their objects carry, and the reverse.
# Not id(): a new Database may get the id of a collected one, and with it its objects.
_strangers: Final[weakref.WeakValueDictionary[str, Database]] = weakref.WeakValueDictionary()
_labels: Final[weakref.WeakKeyDictionary[Database, str]] = weakref.WeakKeyDictionary()


def origin_in(database: Database, schema: str | None, binding: Binding, home: Database) -> Origin:
    """Return the origin of objects loaded from that database, for a model whose own database is
    ``home``.
    """
    if database is home:
        return None if schema is None else (None, schema)
    for name, registered in binding.databases.items():
        if registered is database:
            return (_DEFAULT if name is None else name, schema)
    label = _labels.get(database)
    if label is None:
        label = _labels[database] = f"{_STRANGER}{uuid4().hex}"
        _strangers[label] = database
    return (label, schema)


def resolve_origin(origin: Origin, binding: Binding, home: Database) -> tuple[Database, str | None]:
    """Return the database and schema of ``origin``. Raises UnknownDatabase."""
    if not isinstance(origin, tuple):  # none, or the token of a user's own sharded session
        return home, None
    label, schema = origin
    if label is None:
        return home, schema
    if not label.startswith(_STRANGER):
        return binding.find_database(None if label == _DEFAULT else label), schema
    database = _strangers.get(label)
    if database is None:
        raise UnknownDatabase(
            "This object came from a Database that belongs to no registry and does not exist any "
            "more, or only in another process. Load it again with using(database=...)."
        )
    return database, schema


def location_of(
    state: InstanceState[Any], binding: Binding, home: Database
) -> tuple[Database, str | None]:
    """Return the database and schema of the object's row.

    An object carries no origin while a session of a scope holds it: it is where the session is.
    """
    session = state.session
    if isinstance(session, ScopeSession) and session.target is not None:
        return session.target.database, session.target.schema
    return resolve_origin(cast("Origin", state.identity_token), binding, home)


def origin_of(instance: Any) -> Origin:
    """Return the origin that ``instance`` carries."""
    return cast("Origin", instance_state(instance).identity_token)


def set_origin(instance: Any, origin: Origin) -> None:
    """Set the origin of a stored object. Not while a session holds it."""
    state = instance_state(instance)
    if state.key is not None and state.identity_token != origin:
        state.identity_token = origin
        state.key = (*state.key[:2], origin)


@dataclass(frozen=True, slots=True)
class _SessionTarget:
    database: Database
    schema: str | None

    def origin_of(self, model: type[Any]) -> Origin:
        """Return the origin that objects of ``model`` get when they leave the session."""
        binding, name = getattr(model, "__dbconn__", (None, None))
        if binding is None:
            return None
        return origin_in(self.database, self.schema, binding, binding.find_database(name))


def track_objects(session: ScopeSession, database: Database, schema: str | None) -> None:
    """Set the origin of the objects of ``session`` when they leave it.

    They follow its transaction also after that. Adding an object of another origin raises
    ConfigurationError: its changes would be written to another row that has the same primary key.
    """
    session.target = _SessionTarget(database, schema)


@event.listens_for(ScopeSession, "before_attach")
def _enter(session: ScopeSession, instance: Any) -> None:
    target: _SessionTarget | None = session.target
    if target is None:
        return
    check_is_not_being_stored(instance)
    bound = getattr(type(instance), "__dbconn__", None)
    state = instance_state(instance)
    if bound is None or state.key is None:
        return
    binding, name = bound
    here = (target.database, target.schema)
    came_from = resolve_origin(origin_of(instance), binding, binding.find_database(name))
    if came_from != here and not (
        came_from[0] is target.database and is_shared(object_mapper(instance))
    ):
        raise ConfigurationError(
            f"This {type(instance).__name__} came from {describe(*came_from)}, and the session "
            f"works in {describe(*here)}. Store it with its own save(), or copy it on purpose "
            "with session.merge()."
        )
    set_origin(instance, None)


@event.listens_for(ScopeSession, "persistent_to_detached")
def _leave(session: ScopeSession, instance: Any) -> None:
    target: _SessionTarget | None = session.target
    if target is None or not hasattr(type(instance), "__dbconn__"):
        return
    set_origin(instance, target.origin_of(type(instance)))
    # Its Session no longer restores it, and the transaction that it joined may be rolled back.
    connection = session.bind
    if isinstance(connection, Connection) and not connection.closed and not connection.invalidated:
        log = undo_log_of(connection)
        if log is not None:
            # In a transaction of `rollback()` it may be rolled back although the session has
            # committed.
            level = log.base[-1] if log.base and not connection.in_transaction() else log.level
            note_states(log, [instance_state(instance)], level)


@event.listens_for(ScopeSession, "before_flush")
def _begin_flush(session: ScopeSession, *_: Any) -> None:
    if session.target is not None:
        session.flush_undo = FlushUndo()
        session.flush_undo.take_all(session)


@event.listens_for(ScopeSession, "after_flush")
def _look_at_flush(session: ScopeSession, flush: Any) -> None:
    if session.flush_undo is not None:
        session.flush_undo.take_touched(flush.states)


@event.listens_for(ScopeSession, "after_flush_postexec")
def _end_flush(session: ScopeSession, _: Any) -> None:
    undo, session.flush_undo = session.flush_undo, None
    if undo is not None:
        undo.note(session.connection(), session.target.origin_of)


@event.listens_for(ScopeSession, "after_rollback")
def _give_up_flush(session: ScopeSession) -> None:
    undo, session.flush_undo = session.flush_undo, None
    if undo is not None:
        undo.restore_new()


def is_shared(mapper: Mapper[Any]) -> bool:
    """Return whether a row is the same in every schema, because its tables name their own."""
    return all(getattr(table, "schema", None) for table in mapper.tables)


def describe(database: Database, schema: str | None) -> str:
    """Return a target in words, for messages."""
    where = f"the database {database.name or 'default'!r}"
    return f"{where} without a schema" if schema is None else f"the schema {schema!r} of {where}"
