"""The origin of an object, as a label that it carries: which database, and which schema in it."""

from __future__ import annotations

import weakref
from typing import Any, Final, cast
from uuid import uuid4

from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import UnknownDatabase
from asgi_dbconn.orm.binding import Binding

__all__ = ["Origin", "note_origin", "origin_in", "origin_of", "whereabouts"]

Origin = tuple[str | None, str | None] | None
"""Database and schema. None is the model's own database and no schema. It is the identity token of
the object, which survives detaching, pickling and copying."""

_DEFAULT: Final = ""
_STRANGER: Final = "\0"  # no name of a registry begins like that

# Databases that belong to no registry, by the label that their objects carry, and the other way.
# Not id(): the next Database may get that of one that is gone, and with it the objects.
_strangers: Final[weakref.WeakValueDictionary[str, Database]] = weakref.WeakValueDictionary()
_labels: Final[weakref.WeakKeyDictionary[Database, str]] = weakref.WeakKeyDictionary()


def origin_in(database: Database, schema: str | None, binding: Binding, home: Database) -> Origin:
    """Return the origin of objects loaded there, of a model whose own database is ``home``."""
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


def whereabouts(origin: Origin, binding: Binding, home: Database) -> tuple[Database, str | None]:
    """Return the database and schema that ``origin`` says. Raises UnknownDatabase."""
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


def origin_of(instance: Any) -> Origin:
    """Return what is noted on ``instance``."""
    return cast("Origin", instance_state(instance).identity_token)


def note_origin(instance: Any, origin: Origin) -> None:
    """Note on a stored object where it is stored; not while a session holds it."""
    state = instance_state(instance)
    if state.key is not None and state.identity_token != origin:
        state.identity_token = origin
        state.key = (*state.key[:2], origin)
