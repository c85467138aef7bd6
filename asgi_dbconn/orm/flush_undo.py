"""The undo of a Session's flush, for all objects that it touches.

SQLAlchemy writes on objects while it flushes, the next version, keys, what `onupdate` returns, and
counts all of their changes as stored at its end. Both would be wrong where the flush fails, where
its transaction is rolled back, and for what another task has set while the flush was waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Self

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.collections import collection_adapter

from asgi_dbconn.orm.loaded_objects import find_numbered_key, note_number
from asgi_dbconn.orm.object_undo import (
    ABSENT,
    ObjectUndo,
    note_change,
    remove_unknown,
    unknown_of,
)
from asgi_dbconn.pools.undo_log import UndoLog, undo_log_of

__all__ = ["Before", "FlushUndo", "note_refreshed"]


class Before:
    """The state of one object before a Session reads or writes its row."""

    __slots__ = ("members", "recorded", "undo", "values")

    def __init__(self, state: Any) -> None:
        if vars(state).get("info"):
            for name in unknown_of(state) & state.committed_state.keys():
                state.committed_state[name] = NO_VALUE
        present = instance_dict(state.obj())
        self.values = dict(present)
        self.undo = ObjectUndo(state, dict(state.committed_state))
        self.members = {
            name: list(collection_adapter(present[name]))
            for name in state.committed_state
            if state.manager[name].impl.collection and name in present
        }
        """Those of the collections that were changed."""
        self.recorded: ObjectUndo | None = None

    @classmethod
    def of_clean(cls, state: Any) -> Self:
        """Return the state of an object that only the flush itself has changed."""
        changes, state.committed_state, state.modified = state.committed_state, {}, False
        before = cls(state)
        state.committed_state, state.modified = changes, True
        for name, original in changes.items():
            if original is NO_VALUE:
                before.values.pop(name, None)
            elif name in state.mapper.column_attrs:
                before.values[name] = original
        return before

    def fill(self, state: Any, meanwhile: Collection[str] = ()) -> dict[str, Any]:
        """Return the earlier values of the attributes that the flush has changed. Leave out those
        set meanwhile.
        """
        present = instance_dict(state.obj())
        names = {
            name for name, value in present.items() if self.values.get(name, ABSENT) is not value
        }
        names.update(self.values.keys() - present.keys())
        return {
            name: self.values.get(name, ABSENT)
            for name in names.intersection(state.manager)
            if name not in meanwhile
        }

    def restore(self, state: Any, meanwhile: Mapping[str, Any], *, uncertain: bool = False) -> None:
        """Restore the object. Attributes set meanwhile keep their new values."""
        self.undo.fill(self.fill(state, meanwhile))
        state.committed_state = dict(meanwhile)
        self.undo.restore(state, uncertain=uncertain)


class FlushUndo:
    """The undo record of one flush of one Session."""

    def __init__(self) -> None:
        self._before: dict[Any, Before] = {}
        self._others: list[Any] = []
        self._meanwhile: dict[Any, dict[str, Any]] = {}
        self._deletes = False
        self.new: list[Any] = []
        """The states of the objects that the flush inserts."""
        self.dirty: list[Any] = []
        """The states of those that were changed."""

    def take(self, *states: Any) -> None:
        """Record objects before they are changed."""
        for state in states:
            if state not in self._before:
                self._before[state] = Before(state)

    def take_all(self, session: Session) -> None:
        """Record every object that takes part, before the flush."""
        self._others, self._deletes = session.identity_map.all_states(), bool(session._deleted)
        self.new = list(session._new)
        self.dirty = [state for state in session._dirty_states if state not in session._deleted]
        self.take(*self.new, *self.dirty, *session._deleted)

    def take_touched(self, states: Iterable[Any]) -> None:
        """Record further objects that the flush has touched, before the session forgets their
        changes.
        """
        for state in states:
            if state not in self._before:
                self._before[state] = Before.of_clean(state)

    def take_meanwhile(self, session: Session) -> None:
        """Record attributes that other tasks have set, before the session forgets changes."""
        for state, before in self._before.items():
            changes = self._changes_meanwhile(state, before)
            if changes:
                self._meanwhile[state] = changes
        for state in list(session.identity_map._modified):
            if state not in self._before:  # SQLAlchemy would warn, and forget the changes
                self._meanwhile[state] = state.committed_state
                state.committed_state, state.modified = {}, False
                session.identity_map._modified.discard(state)

    def leave_changes(self) -> None:
        """Mark attributes set meanwhile as changed. Call this after a flush that succeeded."""
        for state, changes in self._meanwhile.items():
            state.committed_state.update(changes)
            state.modified = True

    def note(
        self, connection: Connection, origin: Callable[[type[Any]], object] | None = None
    ) -> None:
        """Register the objects with the connection's transaction, if there is one: they follow its
        rollback.

        Call this again when more was filled in. ``origin`` returns the origin of objects of a
        class, for those that do not carry it while they are in the Session.
        """
        log = undo_log_of(connection)
        for state, before in self._before.items():
            if state.obj() is None:
                continue
            meanwhile = self._meanwhile.get(state, {})
            if vars(state).get("info"):
                remove_unknown(
                    state, before.undo.note_changes | before.fill(state, meanwhile).keys()
                )
            if log is None:
                continue
            filled = before.fill(state, meanwhile)
            if before.recorded is not None:
                before.recorded.fill(filled)
                continue
            if origin is not None:
                before.undo.came_from(origin(state.class_))
            before.undo.fill(filled)
            before.recorded = note_change(log.level, state, before.undo)
            if before.undo.is_new and find_numbered_key(state.mapper) in filled and state.key:
                note_number(connection, log.level, state.mapper, state.key[1])

    def restore(self, *, uncertain: bool) -> None:
        """Restore all objects after a flush that failed.

        ``uncertain`` means that the flush may have been stored.
        """
        self.take_touched(state for state in self._others if state.committed_state)
        for state, before in self._before.items():
            if state.obj() is not None:
                meanwhile = self._changes_meanwhile(state, before)
                before.restore(state, meanwhile, uncertain=uncertain)

    def restore_new(self) -> None:
        """Remove the values that the flush filled in from new objects. Their Session restores all
        others.
        """
        for state, before in self._before.items():
            if state.obj() is not None and before.undo.is_new:
                meanwhile = self._changes_meanwhile(state, before)
                for name in before.fill(state, meanwhile).keys() - before.values.keys():
                    del instance_dict(state.obj())[name]

    def _changes_meanwhile(self, state: Any, before: Before) -> dict[str, Any]:
        """Return the names that other tasks have set since the flush began, with the values that
        were sent.

        The sent value of a column counts as unknown: the flush may have read it before or after.
        """
        instance = state.obj()
        if instance is None:
            return {}
        present, columns = instance_dict(instance), state.mapper.column_attrs
        changes: dict[str, Any] = {}
        for name, original in state.committed_state.items():
            if name in before.members:
                members = before.members[name]
                now = list(collection_adapter(present[name])) if name in present else members
                if [id(member) for member in now] != [id(member) for member in members]:
                    changes[name] = members
            elif name in before.undo.note_changes:
                sent, now = before.values.get(name, ABSENT), present.get(name, ABSENT)
                if now is ABSENT or (sent is None and _takes_default(state, name, before)):
                    continue  # an expression, or a default in place of None
                if now is not sent and not self._is_flushed(state, name):
                    changes[name] = NO_VALUE if name in columns or sent is ABSENT else sent
            elif not self._is_flushed(state, name):
                changes[name] = NO_VALUE if name in columns else original
        return changes

    def _is_flushed(self, state: Any, name: str) -> bool:
        """Return whether the flush itself sets this attribute: a primary or foreign key."""
        attribute = state.mapper.column_attrs.get(name)
        if attribute is None:
            return False
        column = attribute.columns[0]
        return (
            column.primary_key
            or (self._deletes and bool(getattr(column, "foreign_keys", ())))
            or any(
                target is column
                for other, before in self._before.items()
                for relationship in other.mapper.relationships
                if relationship.key in before.undo.note_changes
                for _, target in relationship.synchronize_pairs
            )
        )


def _takes_default(state: Any, name: str, before: Before) -> bool:
    """Return whether None in this attribute of a new object means the column's default."""
    attribute = state.mapper.column_attrs.get(name) if before.undo.is_new else None
    if attribute is None:
        return False
    column: Any = attribute.columns[0]
    return column.default is not None or column.server_default is not None


def note_refreshed(log: UndoLog | None, state: Any, before: Before, names: Collection[str]) -> None:
    """Record that ``names`` of the object were reloaded.

    If the transaction of ``log`` is rolled back, the committed values from before come back.
    Changes that the refresh has discarded do not.
    """
    if vars(state).get("info"):
        remove_unknown(state, names)
    if log is not None:
        note_change(log.level, state, before.undo.after_refresh(state, before.fill(state)))
