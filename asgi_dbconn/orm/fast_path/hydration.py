"""Hydration: detached instances as a Session leaves them, and the listeners that a Session would
call.

SQLAlchemy has no public way to make such instances. The names behind its public interface that both
fast paths need are used in this file only, and listed in ``orm/sqlalchemy_internals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_dict, instance_state

from asgi_dbconn.orm.fast_path import AVAILABLE

__all__ = [
    "LOADING_EVENTS",
    "STATEMENT_EVENTS",
    "STORING_EVENTS",
    "Hydrator",
    "has_load_listeners",
    "has_statement_listeners",
    "has_store_listeners",
    "is_orphan",
    "memoize",
]

T = TypeVar("T")
R = TypeVar("R")
Identity = tuple[Any, ...]

LOADING_EVENTS: Final = (
    "after_transaction_create",
    "after_begin",
    "do_orm_execute",
    "loaded_as_persistent",
    "persistent_to_detached",
    "after_transaction_end",
)
"""The events of a Session that loads objects and lets them go, for listeners of its class."""

STORING_EVENTS: Final = (
    *LOADING_EVENTS[:3],
    "before_attach",
    "after_attach",
    "transient_to_pending",
    "detached_to_persistent",
    "before_flush",
    "after_flush",
    "after_flush_postexec",
    "pending_to_persistent",
    "pending_to_transient",
    "after_rollback",
    "after_soft_rollback",
    *LOADING_EVENTS[4:],
)
"""The same for one that stores an object, or fails to, and lets it go."""


STATEMENT_EVENTS: Final = (*LOADING_EVENTS[:3], "after_transaction_end")
"""The same for one that executes a statement without loading objects."""


def _listeners(events: Iterable[str]) -> tuple[Any, ...]:
    # The class owns them: they show listeners that are added or removed later.
    if not AVAILABLE:
        return ()
    dispatch: Any = Session().dispatch
    return tuple(getattr(dispatch, event).parent_listeners for event in events)


_load_listeners: Final = _listeners(LOADING_EVENTS)
_store_listeners: Final = _listeners(STORING_EVENTS)
_statement_listeners: Final = _listeners(STATEMENT_EVENTS)


def has_load_listeners(mapper: Mapper[Any]) -> bool:
    """Return whether a listener expects objects of this class to be loaded by a Session.

    Mutable types, composites and reconstructors are listeners, too. Ask for every query: listeners
    may be added at any time.
    """
    return bool(mapper.class_manager.dispatch.load) or any(_load_listeners)


def has_store_listeners(mapper: Mapper[Any], *, is_new: bool) -> bool:
    """Return whether a listener expects objects of this class to be stored by a Session.

    Mutable types and composites are listeners, too. Ask for every object.
    """
    if any(_store_listeners):
        return True
    of_rows, of_objects = mapper.dispatch, mapper.class_manager.dispatch
    return bool(
        of_objects.refresh_flush
        or of_objects.refresh
        or of_objects.expire
        or (of_rows.before_insert if is_new else of_rows.before_update)
        or (of_rows.after_insert if is_new else of_rows.after_update)
    )


def has_statement_listeners() -> bool:
    """Return whether a listener expects a Session to execute statements that load no objects.

    Ask for every query. Without the fast path the answer is True: every query takes the Session.
    """
    return not AVAILABLE or any(_statement_listeners)


_NOTES: Final = "_asgi_dbconn_notes"
"""The attribute of a mapper that stands in for ``ClassManager.info`` without the fast path."""


def memoize(mapper: Mapper[Any], key: str, find: Callable[[Mapper[Any]], R]) -> R:
    """Return the cached result of ``find`` for a mapper.

    The cache lives until the mapper changes or its class is collected. The mapper has to be
    configured, as ``class_mapper()`` returns it.
    """
    notes: dict[str, tuple[object, R]] = (
        mapper.class_manager.info if AVAILABLE else vars(mapper).setdefault(_NOTES, {})
    )
    found = notes.get(key)
    # A mapper builds a new `attrs` when it, or a subclass, gets a property or a subclass.
    if found is not None and found[0] is mapper.attrs:
        return found[1]
    # Read first: a change during `find` then invalidates the entry, instead of making it wrong.
    attributes = mapper.attrs
    found = notes[key] = (attributes, find(mapper))  # two threads may both do so: equal results
    return found[1]


def is_orphan(instance: Any) -> bool:
    """Return whether the object was removed from a parent without which it is not stored
    (delete-orphan).
    """
    return instance_state(instance)._orphaned_outside_of_session


class Hydrator(Generic[T]):
    """Makes instances of one class from rows. Immutable: any task, thread and loop may use it."""

    __slots__ = ("_class", "_key", "_make", "_names", "_no_key", "_partial_keys", "_path")

    def __init__(self, mapper: Mapper[T], names: Sequence[str], key: Sequence[int]) -> None:
        """``names`` are the attributes in the order of a row. ``key`` are the positions of its
        primary key.
        """
        self._class = mapper.class_
        self._names = tuple(names)
        self._key = tuple(itemgetter(position) for position in key)
        self._no_key = (None,) * len(key)
        self._partial_keys = mapper.allow_partial_pks
        self._make = cast("Callable[[], T]", mapper.class_manager.new_instance)
        self._path = mapper._path_registry

    def objects(self, rows: Sequence[Sequence[Any]], token: object) -> list[T]:
        """Return one detached, unmodified instance per identity.

        They come in the order of their first rows. ``token`` becomes a part of the identity. Rows
        without a key give None, as in a Session.
        """
        # The keys of all rows together, without a call per row.
        identities = list(zip(*[map(value, rows) for value in self._key], strict=True))
        found = dict(zip(identities, rows, strict=True))
        if len(found) < len(rows):
            found = _first_rows(identities, rows)
        if self._no_key in found or not self._partial_keys:
            return self._make_objects_with_key(found, token)
        return self._make_objects(found.items(), token)

    def _make_objects(
        self, found: Iterable[tuple[Identity, Sequence[Any]]], token: object
    ) -> list[T]:
        # Neither __init__ nor setattr: they would call listeners and validators, and mark loaded
        # values as changes.
        make, names, cls, path = self._make, self._names, self._class, self._path
        objects = []
        for identity, row in found:
            instance = make()
            # Without strict=True, which would be a seventh of the cost of a row.
            instance_dict(instance).update(zip(names, row))  # noqa: B905
            state = instance_state(instance)
            state.key = (cls, identity, token)
            state.identity_token = token
            state.load_path = path
            objects.append(instance)
        return objects

    def _make_objects_with_key(
        self, found: Mapping[Identity, Sequence[Any]], token: object
    ) -> list[T]:
        objects: list[Any] = []
        is_one_missing = False
        for identity, row in found.items():
            if identity != self._no_key and (self._partial_keys or None not in identity):
                objects += self._make_objects([(identity, row)], token)
            elif not is_one_missing:
                is_one_missing = True
                objects.append(None)
        return objects


def _first_rows(
    identities: Iterable[Identity], rows: Iterable[Sequence[Any]]
) -> dict[Identity, Sequence[Any]]:
    found: dict[Identity, Sequence[Any]] = {}
    for identity, row in zip(identities, rows, strict=True):
        found.setdefault(identity, row)
    return found
