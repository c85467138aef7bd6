"""Equality and hash of mapped objects: two objects are equal if they stand for the same row.

New objects are equal only to themselves. An object keeps the hash that it had when it was hashed
first, so that sets and dicts find it after ``save()``, ``delete()`` and a rollback. The hash is a
note on SQLAlchemy's state of the object, which neither pickles nor copies take along.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakValueDictionary

from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn.errors import UnknownDatabase
from asgi_dbconn.orm.origin import is_shared, location_of

__all__ = ["hash_of", "is_same_row"]

_HASH: Final = "_asgi_dbconn_hash"
_STATE: Final = "_sa_instance_state"

_unbuilt: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()
"""Objects that were hashed before they had a state: pickle puts them into sets so early."""


def is_same_row(instance: Any, other: Any) -> bool:
    """Return whether both objects are stored, in the same row of the same database and schema."""
    if _STATE not in instance.__dict__ or _STATE not in other.__dict__:
        return False  # pickle is still building one of them
    one, two = instance_state(instance), instance_state(other)
    # The key begins with the base class of the hierarchy and the values of the primary key.
    if one.key is None or two.key is None or one.key[:2] != two.key[:2]:
        return False
    if one.session is None and two.session is None and one.identity_token == two.identity_token:
        return True
    return _location(one) == _location(two)


def hash_of(instance: Any) -> int:
    """Return the hash of the object's key, or one of its own if it is new."""
    own = object.__hash__(instance)
    if _STATE not in instance.__dict__:
        _unbuilt[id(instance)] = instance
        return own
    notes = vars(instance_state(instance))
    known: int | None = notes.get(_HASH)
    if known is None:
        key = notes.get("key")
        was_unbuilt = bool(_unbuilt) and _unbuilt.pop(id(instance), None) is not None
        # Without the origin: a session takes that off while it holds the object.
        known = own if key is None or was_unbuilt else hash(key[:2])
        notes[_HASH] = known
    return known


def _location(state: InstanceState[Any]) -> tuple[Any, ...]:
    """Return the database and schema of the object's row; less where tables name their schema."""
    binding, name = getattr(state.class_, "__dbconn__", (None, None))
    if binding is None:
        return (state.identity_token,)
    try:
        database, schema = location_of(state, binding, binding.find_database(name))
    except UnknownDatabase:
        return (state.identity_token,)
    return (database,) if is_shared(state.mapper) else (database, schema)
