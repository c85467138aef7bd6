"""Cascades: the objects that are stored, or deleted, along with another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.orm import (
    Mapper,
    RelationshipDirection,
    RelationshipProperty,
    Session,
    object_mapper,
    object_session,
)
from sqlalchemy.orm.attributes import (
    get_history,
    instance_dict,
    instance_state,
    set_committed_value,
)
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.store_lock import STORING

__all__ = [
    "can_be_deleted_alone",
    "cascaded_objects",
    "check_can_be_added",
    "check_is_not_being_stored",
    "is_dirty",
    "needs_one_statement",
    "stale_relations",
    "unlink",
]

_UNKNOWN: Final = object()
_TO_ONE: Final = RelationshipDirection.MANYTOONE
_TO_MANY: Final = RelationshipDirection.ONETOMANY
_ON_STORING: Final = ("before_insert", "after_insert", "before_update", "after_update")
_ON_DELETING: Final = ("before_delete", "after_delete")

# The class owns them: they show listeners that are added or removed later.
_on_flushing: Final = tuple(
    getattr(Session().dispatch, event)
    for event in ("before_flush", "after_flush", "after_flush_postexec")
)


def cascaded_objects(instance: Any) -> list[Any]:
    """Return every other object that a Session would store together with ``instance``."""
    mapper = object_mapper(instance)
    if not mapper.relationships:
        return []
    _settle_same_rows(mapper, instance)
    reached = mapper.cascade_iterator("save-update", instance_state(instance))
    return [other for other, *_ in reached if other is not instance]


def check_can_be_added(instance: Any, others: Sequence[Any]) -> None:
    """Raise ConfigurationError for an object that a Session of ours cannot take, or would store
    wrongly.
    """
    rows = set()
    for candidate in (instance, *others):
        _check_is_free(candidate)
        key = instance_state(candidate).key
        if key is not None and key in rows:
            raise ConfigurationError(
                f"Two {type(candidate).__name__} objects for the row {key[1]!r} are related to "
                f"this {type(instance).__name__}, and may have different values. Use one of them "
                "everywhere, or set the foreign key instead of the relation."
            )
        rows.add(key)


def check_is_not_being_stored(instance: Any) -> None:
    """Raise ConfigurationError if another task is storing the object."""
    if id(instance) in STORING:
        raise _in_use(instance)


def _check_is_free(instance: Any) -> None:
    name = type(instance).__name__
    if instance_state(instance).obj() is not instance:
        raise ConfigurationError(
            f"This {name} was made by copy.copy(), which shares SQLAlchemy's notes with the "
            "original: what is changed on the copy would be lost. Use copy.deepcopy(), or get() it "
            "a second time."
        )
    check_is_not_being_stored(instance)
    if object_session(instance) is not None:
        raise _in_use(instance)


def _in_use(instance: Any) -> ConfigurationError:
    return ConfigurationError(
        f"This {type(instance).__name__} belongs to a session that is open, or is being stored by "
        "another task at this moment. Let that session flush or commit it."
    )


def unlink(instance: Any) -> None:
    """Remove every reference to a new ``instance`` that was given up. A cascade would store it
    later.
    """
    for relationship in object_mapper(instance).relationships:
        if instance_dict(instance).get(relationship.key):
            setattr(instance, relationship.key, [] if relationship.uselist else None)


def needs_one_statement(instance: Any, others: Sequence[Any]) -> bool:
    """Return whether a single statement stores the object: no new or changed object cascades from
    it.
    """
    mapper = object_mapper(instance)
    return (
        len(mapper.tables) == 1
        and not _has_listeners(mapper, _ON_STORING)
        and not any(_takes_a_statement(other, instance) for other in others)
        and not any(
            _changes_other_rows(instance, relationship) for relationship in mapper.relationships
        )
    )


def can_be_deleted_alone(mapper: Mapper[Any]) -> bool:
    """Return whether deleting such an object takes a single statement."""
    return (
        len(mapper.tables) == 1
        and mapper.version_id_col is None
        and not _has_listeners(mapper, _ON_DELETING)
        and all(_is_untouched(relationship) for relationship in mapper.relationships)
    )


def is_dirty(instance: Any) -> bool:
    """Return whether the object is new, or was changed since it was loaded."""
    state = instance_state(instance)
    return state.key is None or state.modified


def stale_relations(instance: Any) -> list[str]:
    """Return the loaded many-to-one relations that no longer match their foreign key."""
    return [
        relationship.key
        for relationship in object_mapper(instance).relationships
        if relationship.direction is _TO_ONE
        and not relationship.viewonly
        and relationship.key in instance_dict(instance)
        and not get_history(instance, relationship.key, PASSIVE_NO_INITIALIZE).has_changes()
        and not _is_referred_to(instance, relationship)
    ]


def _is_referred_to(instance: Any, relationship: RelationshipProperty[Any]) -> bool:
    other = instance_dict(instance)[relationship.key]
    for ours, theirs in relationship.local_remote_pairs or ():
        here = _value(instance, relationship.parent, ours)
        there = None if other is None else _value(other, relationship.mapper, theirs)
        # A value that is not loaded on one side may be equal.
        if here is not _UNKNOWN and there is not _UNKNOWN and here != there:
            return False
    return True


def _value(instance: Any, mapper: Mapper[Any], column: Any) -> Any:
    return instance_dict(instance).get(mapper.get_property_by_column(column).key, _UNKNOWN)


def _takes_a_statement(other: Any, instance: Any) -> bool:
    """Return whether storing ``instance`` takes a statement for ``other``, too."""
    if not is_dirty(other):
        return False
    state, mapper = instance_state(other), object_mapper(other)
    if state.key is None or any(key in mapper.column_attrs for key in state.committed_state):
        return True
    return any(
        _changes_other_rows(other, relationship, but=instance)
        for relationship in mapper.relationships
    )


def _settle_same_rows(mapper: Mapper[Any], instance: Any) -> None:
    # `post.user = user`, where `post.user` was another object of the same row, changes nothing. A
    # Session would get two objects of one row, and refuse them.
    for relationship in mapper.relationships:
        if relationship.direction is _TO_ONE and relationship.key in instance_dict(instance):
            history = get_history(instance, relationship.key, PASSIVE_NO_INITIALIZE)
            if history.added and history.deleted:
                (new, *_), (old, *_) = history.added, history.deleted
                if _key(new) is not None and _key(new) == _key(old):
                    set_committed_value(instance, relationship.key, new)


def _key(instance: Any) -> Any:
    return None if instance is None else instance_state(instance).key


def _changes_other_rows(
    instance: Any, relationship: RelationshipProperty[Any], but: object = None
) -> bool:
    if relationship.viewonly:
        return False
    history = get_history(instance, relationship.key, PASSIVE_NO_INITIALIZE)
    if not history.has_changes():
        return False
    if relationship.direction is _TO_ONE:
        # The foreign key is in our own table.
        return relationship.post_update or relationship.cascade.delete
    # The foreign key is in the table of the collected objects.
    is_theirs = relationship.direction is _TO_MANY and all(
        member is but for member in history.added
    )
    return bool(history.deleted) or not is_theirs


def _is_untouched(relationship: RelationshipProperty[Any]) -> bool:
    """Return whether deleting an object leaves this relation alone."""
    if relationship.viewonly or relationship.passive_deletes == "all":
        return True
    return relationship.direction is _TO_ONE and not (
        relationship.post_update or relationship.cascade.delete
    )


def _has_listeners(mapper: Mapper[Any], events: tuple[str, ...]) -> bool:
    # Listeners may emit statements of their own.
    return any(_on_flushing) or any(getattr(mapper.dispatch, event) for event in events)
