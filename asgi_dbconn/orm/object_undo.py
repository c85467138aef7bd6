"""The undo of one object: back to the state from before a part of a transaction.

What is known of its row goes back: key, origin, version, the committed values and the committed
members of relations. What the user has set stays, also what was set after the row was written. What
the database has filled in goes. So the next ``save()`` sends what it would have sent before.

The notes are kept with the object itself. The undo log refers to it weakly, so neither the log nor
another object keeps it alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.orm import make_transient, object_session
from sqlalchemy.orm.attributes import (
    flag_modified,
    instance_dict,
    instance_state,
    set_committed_value,
)
from sqlalchemy.orm.base import NO_VALUE

from asgi_dbconn.pools.undo_log import Level

__all__ = [
    "ABSENT",
    "CHANGED",
    "ObjectUndo",
    "add_unknown",
    "make_new",
    "note_change",
    "remove_unknown",
    "unknown_of",
]

ABSENT: Final = object()
"""The stand-in for a value that an object did not have."""
_NO_VALUES: Final[Mapping[str, Any]] = MappingProxyType({})
_NOTHING: Final[frozenset[str]] = frozenset()
_UNDOS: Final = "_asgi_dbconn_undos"


class ObjectUndo:
    """The undo record of one object: its state where one level of a transaction began."""

    __slots__ = (
        "_deleted",
        "_filled",
        "_key",
        "_modified",
        "_originals",
        "_orphaned",
        "_pending",
        "_unknown",
    )

    def __init__(
        self, state: Any, originals: dict[str, Any], filled: Mapping[str, Any] = _NO_VALUES
    ) -> None:
        """Record ``state`` before its row is written, or at least before the object is marked as
        written.

        ``originals``: the changed names, with their committed values. ``filled``: the names that
        the database has filled in, with their earlier values.
        """
        self._originals = originals
        self._filled = dict(filled)
        self._key = state.key
        self._modified = state.modified
        # Pending additions to and removals from collections that are not loaded.
        self._pending: dict[str, Any] = dict(vars(state).get("_pending_mutations") or ())
        self._deleted = state._deleted
        self._orphaned = state._orphaned_outside_of_session
        self._unknown = unknown_of(state) if vars(state).get("info") else _NOTHING

    @property
    def note_changes(self) -> Set[str]:
        """The names of unsaved changes."""
        return self._originals.keys()

    @property
    def is_new(self) -> bool:
        """True if the object had no row."""
        return self._key is None

    def was_new(self) -> None:
        """Mark the object as new: it was built from the row that its INSERT returned."""
        self._key = None

    def came_from(self, origin: object) -> None:
        """Give the identity key the origin that it had outside of the user's session."""
        if self._key is not None:
            self._key = (*self._key[:2], origin)

    def absorb(self, later: ObjectUndo) -> None:
        """Merge ``later``, an undo record of the same level."""
        for name, original in later._originals.items():
            self._add_change(name, original)
        self.fill(later._filled)
        _add_pending(self._pending, later._pending)

    def fill(self, filled: Mapping[str, Any]) -> None:
        """Record more names that the database has filled in."""
        for name, before in filled.items():
            self._filled.setdefault(name, before)

    def after_refresh(self, state: Any, filled: Mapping[str, Any]) -> ObjectUndo:
        """Return the undo record of the committed values only.

        A refresh discards changes on purpose.
        """
        committed = state.committed_state
        for name in self._originals.keys() - committed.keys():
            original = self._originals.pop(name)
            if original is NO_VALUE:  # there is no earlier state
                self._unknown = self._unknown.union([name])
                filled = {key: before for key, before in filled.items() if key != name}
            else:
                filled = {**filled, name: original}
        self.fill(filled)
        return self

    def restore(self, state: Any, *, uncertain: bool = False) -> None:
        """Restore the object. Changes that the user made since stay."""
        instance = state.obj()
        if instance is None:
            return
        if uncertain and state.key is None and self._key is not None:
            # Its row may have been deleted and its key reused. It stays a new object, which cannot
            # overwrite another row.
            return
        is_attached = object_session(instance) is not None and not state._deleted
        if is_attached and self._key is None:
            make_new(instance)  # a user's session holds a row that does not exist
            is_attached = False
        present = instance_dict(instance)
        for name, original in state.committed_state.items():
            self._add_change(name, original)
        pending = vars(state).pop("_pending_mutations", None)
        if pending:
            _add_pending(self._pending, pending)
        for name, before in self._filled.items():
            _put_back(state, present, name, before)
        if uncertain:
            # The row may have the new values or the old ones, so any value is a change.
            columns = state.mapper.column_attrs
            self._originals.update(dict.fromkeys(columns.keys() & self._originals.keys(), NO_VALUE))
        if self._pending:
            vars(state)["_pending_mutations"] = self._pending
        if is_attached:
            self._restore_attached(state, instance, present)
            return
        state.session_id = None  # that of a deleted object outlives its session
        state.committed_state = self._originals
        state.modified = self._modified or bool(self._originals)
        state.key = self._key
        state.identity_token = None if self._key is None else self._key[2]
        state._deleted = self._deleted
        state._orphaned_outside_of_session = self._orphaned
        add_unknown(state, self._unknown)

    def _restore_attached(self, state: Any, instance: Any, present: Mapping[str, Any]) -> None:
        # Its session knows it by its key, and has to hear that it was changed.
        for name in self._originals.keys() & present.keys():
            flag_modified(instance, name)
        state.committed_state.update(self._originals)
        add_unknown(state, self._unknown)

    def _add_change(self, name: str, original: Any) -> None:
        if name in self._filled:  # set by the user after the database filled it in
            before = self._filled.pop(name)
            original = NO_VALUE if before is ABSENT else before
        self._originals.setdefault(name, original)


class _Changed:
    """Undo of objects that were inserted, changed, deleted or refreshed; see ``Participant``."""

    has_notes = True

    def undo(self, owners: list[Any], level: Level, *, uncertain: bool) -> None:
        for state in owners:
            _take(state, level).restore(state, uncertain=uncertain)

    def promote(self, owners: list[Any], level: Level, outer: Level) -> None:
        for state in owners:
            undos = vars(state)[_UNDOS]
            inner, before = undos.pop(level), undos.get(outer)
            if before is None:
                undos[outer] = inner
            else:
                before.absorb(inner)
        outer.add(self, owners)

    def forget(self, owners: list[Any], level: Level) -> None:
        for state in owners:
            _take(state, level)


CHANGED: Final = _Changed()


def note_change(level: Level, state: Any, undo: ObjectUndo) -> ObjectUndo:
    """Restore the object when ``level`` is undone. Return the undo record in force."""
    undos: dict[Level, ObjectUndo] = vars(state).setdefault(_UNDOS, {})
    before = undos.get(level)
    if before is not None:
        before.absorb(undo)
        return before
    undos[level] = undo
    level.add(CHANGED, (state,))
    return undo


def make_new(instance: Any) -> None:
    """Make the object transient, and remove it from every session."""
    state: Any = instance_state(instance)
    session: Any = object_session(instance)
    if session is not None:
        session._expunge_states([state], to_transient=True)
    make_transient(instance)
    state.identity_token = None


# -- unknown values

_UNKNOWN: Final = "asgi_dbconn.unknown"


def unknown_of(state: Any) -> frozenset[str]:
    """Return the columns whose committed values are unknown.

    A value set on one of them always counts as a change.
    """
    info = vars(state).get("info")
    return info.get(_UNKNOWN, _NOTHING) if info else _NOTHING


def add_unknown(state: Any, names: Iterable[str]) -> None:
    """Mark the committed values of these columns as unknown."""
    if names:
        state.info[_UNKNOWN] = unknown_of(state).union(names)


def remove_unknown(state: Any, names: Iterable[str]) -> None:
    """Mark the values of these columns as committed."""
    left = unknown_of(state).difference(names)
    if left:
        state.info[_UNKNOWN] = left
    else:
        state.info.pop(_UNKNOWN, None)


# -- inside


def _take(state: Any, level: Level) -> ObjectUndo:
    undos: dict[Level, ObjectUndo] = vars(state)[_UNDOS]
    undo = undos.pop(level)
    if not undos:
        del vars(state)[_UNDOS]
    return undo


def _put_back(state: Any, present: dict[str, Any], name: str, before: Any) -> None:
    state.expired_attributes.discard(name)
    if before is ABSENT:
        present.pop(name, None)
    elif state.manager[name].impl.collection and present.get(name) is not before:
        set_committed_value(state.obj(), name, before)  # it was expired, and is not used any more
    else:
        present[name] = before


def _add_pending(pending: dict[str, Any], later: Mapping[str, Any]) -> None:
    for name, mutations in later.items():
        known = pending.setdefault(name, mutations)
        if known is not mutations:
            for added_item in mutations.added_items:
                known.append(added_item)
            for deleted_item in mutations.deleted_items:
                known.remove(deleted_item)
