"""Detached instances made out of rows, just as a Session leaves those that it has loaded.

SQLAlchemy offers no way to do so. Whatever the fast path of reading needs from behind its public
interface stands in this file and nowhere else, and a test pins each of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_dict, instance_state

__all__ = ["LOADING_EVENTS", "Hydrator", "is_overheard", "notes_on"]

T = TypeVar("T")
Identity = tuple[Any, ...]

LOADING_EVENTS: Final = (
    "after_transaction_create",
    "after_begin",
    "do_orm_execute",
    "loaded_as_persistent",
    "persistent_to_detached",
    "after_transaction_end",
)
"""What a Session that loads objects and lets them go tells the listeners of its class."""

# They belong to the class: listeners that come and go later are seen in them.
_session_listeners: Final = tuple(getattr(Session().dispatch, event) for event in LOADING_EVENTS)


def is_overheard(mapper: Mapper[Any]) -> bool:
    """Whether anybody listens for objects of this class being loaded by a Session.

    Mutable types, composites and reconstructors do, too. To be asked for every query, because
    listeners may come at any time.
    """
    return bool(mapper.class_manager.dispatch.load) or any(_session_listeners)


def notes_on(mapper: Mapper[Any]) -> dict[Any, Any]:
    """Where to keep what was found out about a mapper; it lives and dies with the mapped class."""
    return mapper.class_manager.info


class Hydrator(Generic[T]):
    """Makes the instances of one class. Immutable: may be used by any task, thread and loop."""

    __slots__ = ("_class", "_key", "_make", "_names", "_no_key", "_partial_keys", "_path")

    def __init__(self, mapper: Mapper[T], names: Sequence[str], key: Sequence[int]) -> None:
        """``names`` are the attributes in the order of a row, ``key`` is where its key stands."""
        self._class = mapper.class_
        self._names = tuple(names)
        self._key = tuple(itemgetter(position) for position in key)
        self._no_key = (None,) * len(key)
        self._partial_keys = mapper.allow_partial_pks
        self._make = cast("Callable[[], T]", mapper.class_manager.new_instance)
        self._path = mapper._path_registry

    def objects(self, rows: Sequence[Sequence[Any]], token: object) -> list[T]:
        """A detached, unmodified instance for each identity, in the order of their first rows.

        ``token`` becomes a part of the identity. Rows without a key are None, as in a Session.
        """
        # All keys of all rows in one go, without a call for each of them.
        identities = list(zip(*(map(value, rows) for value in self._key), strict=True))
        found = dict(zip(identities, rows, strict=True))
        if len(found) < len(rows):
            found = _first_rows(identities, rows)
        if self._no_key in found or not self._partial_keys:
            return self._made_where_there_is_a_key(found, token)
        return self._made(found.items(), token)

    def _made(self, found: Iterable[tuple[Identity, Sequence[Any]]], token: object) -> list[T]:
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

    def _made_where_there_is_a_key(
        self, found: Mapping[Identity, Sequence[Any]], token: object
    ) -> list[T]:
        objects: list[Any] = []
        is_one_missing = False
        for identity, row in found.items():
            if identity != self._no_key and (self._partial_keys or None not in identity):
                objects += self._made([(identity, row)], token)
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
