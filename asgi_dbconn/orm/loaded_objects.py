"""Objects that were loaded in a transaction which is rolled back later.

They may show what never was committed. Their values stay, because they may be looked at, and their
committed values count as unknown: whatever the user sets on them afterwards is a change, also where
it equals what was loaded. What the user does not set is not sent, because it may be another task's
value that was rolled back. ``refresh()`` ends that.

Some may show a row that no longer exists, because the same transaction had inserted it. On
PostgreSQL their ``save()`` finds that out. SQLite reuses the key of such a row for the next one
that is inserted, so there these objects become new ones, without a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import NO_VALUE

from asgi_dbconn.orm.object_undo import add_unknown, make_new, remove_unknown
from asgi_dbconn.pools.undo_log import Level, UndoLog, undo_log_of

__all__ = ["find_numbered_key", "note_loaded", "note_number", "note_states"]


def note_loaded(connection: Connection, instances: Iterable[Any]) -> None:
    """Register the objects as loaded in the connection's transaction, if there is one."""
    log = undo_log_of(connection)
    if log is not None:
        note_states(log, list(map(instance_state, instances)), log.level)


def note_states(log: UndoLog, states: list[Any], level: Level) -> None:
    """Register loaded objects, given by their SQLAlchemy states, with ``level``."""
    level.add(_LOADED, states)
    for around in (*log.base, *log.levels):
        if around.first_keys:
            around.add(_VANISHING, [state for state in states if _is_row_of(around, state)])


def find_numbered_key(mapper: Mapper[Any]) -> str | None:
    """Return the attribute of an autoincrement primary key, if there is one."""
    table = mapper.base_mapper.local_table
    column = table.autoincrement_column if isinstance(table, Table) else None
    return None if column is None else mapper.get_property_by_column(column).key


def note_number(
    connection: Connection, level: Level, mapper: Mapper[Any], key: tuple[Any, ...]
) -> None:
    """Record that the database gave this key to a new row."""
    if connection.dialect.name == "sqlite" and len(key) == 1 and isinstance(key[0], int):
        level.note_key(mapper.base_mapper.local_table, key[0])


class _Loaded:
    """Objects whose committed values are unknown after a rollback; see ``Participant``."""

    has_notes = False

    def undo(self, owners: list[Any], level: Level, *, uncertain: bool) -> None:
        for state in owners:
            if state.key is not None:
                mapper, present = state.mapper, instance_dict(state.obj())
                key = {mapper.get_property_by_column(column).key for column in mapper.primary_key}
                add_unknown(state, (mapper.column_attrs.keys() & present.keys()) - key)

    def promote(self, owners: list[Any], level: Level, outer: Level) -> None:
        outer.add(self, owners)

    def forget(self, owners: list[Any], level: Level) -> None:
        """Do nothing: the loaded values are committed."""


class _Vanishing:
    """Objects whose rows a rollback removes: they become new; see ``Participant``."""

    has_notes = False

    def undo(self, owners: list[Any], level: Level, *, uncertain: bool) -> None:
        for state in owners:
            instance = state.obj()
            if state.key is None or instance is None:
                continue
            make_new(instance)
            present = instance_dict(instance)
            for attribute in state.mapper.column_attrs:
                column = attribute.columns[0]
                if column.primary_key or getattr(column, "computed", None) is not None:
                    present.pop(attribute.key, None)
            state.committed_state = dict.fromkeys(state.committed_state, NO_VALUE)
            remove_unknown(state, present)

    def promote(self, owners: list[Any], level: Level, outer: Level) -> None:
        outer.add(self, owners)

    def forget(self, owners: list[Any], level: Level) -> None:
        """Do nothing: the rows are committed."""


_LOADED: Final = _Loaded()
_VANISHING: Final = _Vanishing()


def _is_row_of(level: Level, state: Any) -> bool:
    """Return whether ``level`` has inserted the row that the object was loaded from.

    SQLite counts on from the largest key, and no other transaction can write meanwhile.
    """
    first = level.first_keys.get(state.mapper.base_mapper.local_table)
    return first is not None and state.key is not None and bool(state.key[1][0] >= first)
