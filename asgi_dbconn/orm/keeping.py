"""What objects were like, to be given back to them where storing or refreshing fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import object_mapper
from sqlalchemy.orm.attributes import (
    flag_modified,
    instance_dict,
    instance_state,
    set_committed_value,
)

__all__ = ["kept"]


@contextmanager
def kept(instances: Iterable[Any]) -> Iterator[None]:
    """If an error leaves the block, the objects are as they were before, changes and all.

    SQLAlchemy writes on them while it works: the next version, what `onupdate` gives, keys. What
    the database took back must not stay, or the next save() would build on it.
    """
    before = [_Before(each) for each in instances]
    try:
        yield
    except BaseException:
        for each in before:
            each.give_back()
        raise


class _Before:
    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._present = dict(instance_dict(instance))
        self._originals = dict(instance_state(instance).committed_state)

    def give_back(self) -> None:
        mapper, state = object_mapper(self._instance), instance_state(self._instance)
        present = instance_dict(self._instance)
        for key in mapper.column_attrs.keys():  # noqa: SIM118 - not a dict
            present.pop(key, None)
            state.committed_state.pop(key, None)
            if key in self._present:
                set_committed_value(self._instance, key, self._present[key])
            if key in self._originals:
                flag_modified(self._instance, key)
                state.committed_state[key] = self._originals[key]
        self._give_back_relations(present, mapper.relationships)

    def _give_back_relations(self, present: Mapping[str, Any], relations: Any) -> None:
        for relation in relations:
            # Only what was forgotten: the others still know what was put in and taken out.
            if relation.key in self._present and relation.key not in present:
                set_committed_value(self._instance, relation.key, self._present[relation.key])
