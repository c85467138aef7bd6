"""The lock of one object that is being stored without a Session, and its changes under way.

The values that are sent were read when the lock is taken. From there on the object counts as
unchanged, so that SQLAlchemy itself notes what is set meanwhile: as a change against what was sent.
It stays a change when the row is written. If that fails, both are changes again.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import NO_VALUE

from asgi_dbconn.errors import ConnectionLost, DBConnError
from asgi_dbconn.orm.object_undo import (
    ABSENT,
    ObjectUndo,
    note_change,
    remove_unknown,
    unknown_of,
)
from asgi_dbconn.pools.undo_log import UndoLog

__all__ = ["STORING", "StoreLock", "is_refusal"]

STORING: Final[set[int]] = set()
"""The identities of the objects whose lock is taken."""


class StoreLock:
    """The lock of ``instance``: inside its block no other task may store it.

    The object then behaves as if a Session held it. Check :data:`BEING_STORED` before. Do not await
    between that check, reading the values, and the block.
    """

    __slots__ = ("_originals", "_state", "_was_modified", "instance")

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self._state: Any = instance_state(instance)
        self._originals: dict[str, Any] = {}
        self._was_modified = False

    def __enter__(self) -> StoreLock:
        STORING.add(id(self.instance))
        state = self._state
        self._originals, self._was_modified = state.committed_state, state.modified
        state.committed_state, state.modified = {}, False
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        STORING.discard(id(self.instance))
        if error is not None:
            self._put_back(error)

    def give_up(self) -> None:
        """Give the object its changes back, so that a Session can store it."""
        state = self._state
        state.committed_state = {**state.committed_state, **self._originals}
        state.modified = state.modified or self._was_modified

    def finish(self, key: Any, filled: dict[str, Any], log: UndoLog | None) -> None:
        """Mark the object as stored under ``key``, with the values that the database has filled in.

        ``log`` belongs to the transaction whose rollback undoes this.
        """
        state = self._state
        present, meanwhile = instance_dict(self.instance), state.committed_state
        for name in meanwhile.keys() & filled.keys():
            meanwhile[name] = filled.pop(name)
        if log is not None:
            before = {name: present.get(name, ABSENT) for name in filled}
            note_change(log.level, state, ObjectUndo(state, self._originals, before))
        present.update(filled)
        if state.expired_attributes:
            state.expired_attributes.difference_update(present)
        state.key, state.identity_token = key, key[2]
        if vars(state).get("info"):
            self._remove_unknown(filled)

    def _remove_unknown(self, filled: dict[str, Any]) -> None:
        if unknown_of(self._state):
            remove_unknown(self._state, self._originals.keys() | filled.keys())

    def _put_back(self, error: BaseException) -> None:
        state, originals = self._state, self._originals
        if not is_refusal(error):
            # The row may have the new values or the old ones, so any value is a change.
            originals = dict.fromkeys(originals, NO_VALUE)
        state.committed_state = {**state.committed_state, **originals}
        state.modified = state.modified or self._was_modified


def is_refusal(error: BaseException) -> bool:
    """Return whether this error proves that nothing was written."""
    if isinstance(error, DBAPIError):
        return not error.connection_invalidated
    return isinstance(error, SQLAlchemyError | DBConnError) and not isinstance(
        error, ConnectionLost
    )
