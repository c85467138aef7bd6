"""Hydration: detached instances as a Session leaves them, and the listeners that a Session would
call.

SQLAlchemy has no public way to make such instances. The names behind its public interface that both
fast paths need are used in this file only, and listed in ``orm/sqlalchemy_names.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_dict, instance_state

from asgi_dbconn.orm.fast_path import AVAILABLE

__all__ = [
    "CHANGING_EVENTS",
    "LOADING_EVENTS",
    "STORING_EVENTS",
    "Hydrator",
    "has_change_listeners",
    "has_load_listeners",
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


CHANGING_EVENTS: Final = (*LOADING_EVENTS[:3], "after_transaction_end")
"""The same for one that changes or deletes rows without loading them."""


def _listeners(events: Iterable[str]) -> tuple[Any, ...]:
    # They belong to the class: listeners that come and go later are seen in them.
    if not AVAILABLE:
        return ()
    dispatch: Any = Session().dispatch
    return tuple(getattr(dispatch, event).parent_listeners for event in events)


_load_listeners: Final = _listeners(LOADING_EVENTS)
_store_listeners: Final = _listeners(STORING_EVENTS)
_change_listeners: Final = _listeners(CHANGING_EVENTS)


def has_load_listeners(mapper: Mapper[Any]) -> bool:
    """Return whether anything listens for objects of this class being loaded by a Session.

    Mutable types, composites and reconstructors do, too. To be asked for every query, because
    listeners may come at any time.
    """
    return bool(mapper.class_manager.dispatch.load) or any(_load_listeners)


def has_store_listeners(mapper: Mapper[Any], *, is_new: bool) -> bool:
    """Return whether anything listens for objects of this class being stored by a Session.

    Mutable types and composites do, too. To be asked for every object.
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


def has_change_listeners() -> bool:
    """Return whether anything listens for rows being changed by a Session.

    To be asked for every query. True without the fast path: then every query takes the Session.
    """
    return not AVAILABLE or any(_change_listeners)


_NOTES: Final = "_asgi_dbconn_notes"
"""The attribute of a mapper that stands in for ``ClassManager.info`` without the fast path."""


def memoize(mapper: Mapper[Any], key: str, find: Callable[[Mapper[Any]], R]) -> R:
    """Return what ``find`` found out about a mapper.

    It is kept until the mapper changes, or its class is gone. The mapper has to be configured, as
    ``class_mapper()`` returns it.
    """
    notes: dict[str, tuple[object, R]] = (
        mapper.class_manager.info if AVAILABLE else vars(mapper).setdefault(_NOTES, {})
    )
    found = notes.get(key)
    # A mapper makes a new `attrs` when a property or a subclass is added, to itself or below it.
    if found is not None and found[0] is mapper.attrs:
        return found[1]
    # Looked at first: what comes in between makes it a note of the past, and not a wrong one.
    attributes = mapper.attrs
    found = notes[key] = (attributes, find(mapper))  # two threads may both find it: equal results
    return found[1]


def is_orphan(instance: Any) -> bool:
    """Return whether it was taken out of the collection of a parent that it needs to be stored."""
    return instance_state(instance)._orphaned_outside_of_session


class Hydrator(Generic[T]):
    """The maker of one class's instances. Immutable: may be used by any task, thread and loop."""

    __slots__ = ("_class", "_key", "_make", "_names", "_no_key", "_partial_keys", "_path")

    def __init__(self, mapper: Mapper[T], names: Sequence[str], key: Sequence[int]) -> None:
        """Take ``names``, the attributes in the order of a row; its key stands at ``key``."""
        self._class = mapper.class_
        self._names = tuple(names)
        self._key = tuple(itemgetter(position) for position in key)
        self._no_key = (None,) * len(key)
        self._partial_keys = mapper.allow_partial_pks
        self._make = cast("Callable[[], T]", mapper.class_manager.new_instance)
        self._path = mapper._path_registry

    def objects(self, rows: Sequence[Sequence[Any]], token: object) -> list[T]:
        """Return a detached, unmodified instance for each identity.

        The order is that of their first rows. ``token`` becomes a part of the identity. Rows
        without a key are None, as in a Session.
        """
        # All keys of all rows in one go, without a call for each of them.
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
        # Neither __init__ nor setattr: they would call listeners and validators, and make changes
        # of what is only loaded.
        make, names, cls, path = self._make, self._names, self._class, self._path
        objects = []
        for identity, row in found:
            instance = make()
            # Without strict=True, which would be a seventh of what a row costs.
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
