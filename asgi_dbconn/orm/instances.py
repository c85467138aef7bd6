"""``save()``, ``delete()`` and ``refresh()`` of a model's own objects."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.orm import object_mapper
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import StaleDataError

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.errors import FieldError
from asgi_dbconn.orm import cascades, persistence
from asgi_dbconn.orm.belonging import check_same_place, place_of
from asgi_dbconn.orm.errors import ObjectNotFound
from asgi_dbconn.orm.fast_path.write_plans import storing_plan_of
from asgi_dbconn.orm.store_lock import StoreLock
from asgi_dbconn.orm.target import Place, Work

__all__ = ["delete", "refresh", "run", "save", "store"]

R = TypeVar("R")
T = TypeVar("T")


def save(instance: Any) -> Coroutine[Any, Any, None]:
    """Store ``instance``: an INSERT if it is new, else one UPDATE of what was changed."""
    place = place_of(instance)
    return _save(place, instance, place.built_at())


async def store(
    place: Place, instance: T, built_at: CallSite | None, *, is_known: bool = True
) -> T:
    """Store ``instance`` at ``place`` with what hangs on it, as far as it is new or changed.

    One that the caller does not know yet (``is_known=False``) leaves the relations of others if
    that fails.
    """
    try:
        plainly = _plainly(instance)
        if plainly is not None:
            lock, work = plainly
            cascades.check_can_be_added(instance, ())
            with lock:
                return await _stored(place, work, (instance,), alone=True, built_at=built_at)
        others = cascades.hanging_on(instance)
        cascades.check_can_be_added(instance, others)
        check_same_place(place, instance, others)
        if not any(cascades.is_to_be_stored(other) for other in (instance, *others)):
            return instance  # nothing to send
        alone = cascades.is_stored_alone(instance, others)
        work = partial(persistence.store, instance=instance, alone=alone)
        return await _stored(place, work, (instance, *others), alone=alone, built_at=built_at)
    except BaseException:
        if not is_known:
            cascades.take_out(instance)
        raise


def delete(instance: Any) -> Coroutine[Any, Any, None]:
    """Delete the row of ``instance``, with the cascades of its relationships."""
    _check_is_stored(instance, "deleted")
    place = place_of(instance)
    return _delete(place, instance, place.built_at())


def refresh(instance: Any, names: tuple[str, ...]) -> Coroutine[Any, Any, None]:
    """Load columns or relations of ``instance`` anew."""
    _check_is_stored(instance, "refreshed")
    place, mapper = place_of(instance), object_mapper(instance)
    for name in names:
        if name not in mapper.attrs:
            there_are = ", ".join(sorted(mapper.attrs.keys()))
            raise FieldError(
                f"{type(instance).__name__} has nothing called {name!r} to load. "
                f"There are: {there_are}."
            )
    return _refresh(place, instance, names, place.built_at())


async def run(place: Place, work: Work[R], *, alone: bool, built_at: CallSite | None) -> R:
    """Do ``work``, which writes: in a transaction, unless it is ``alone``, a single statement."""
    if alone or place.scope() is not None:
        return await place.run(work, autocommit=alone, built_at=built_at)
    place.effective_schema()  # refused before anything begins
    # SQLite: what reads first and writes later must have the write lock from the beginning.
    async with place.database.verb_transaction():
        return await place.run(work, autocommit=False, built_at=built_at)


def _plainly(instance: T) -> tuple[StoreLock, Work[T]] | None:
    """Return how to store it without a Session.

    None if it is not to be stored, or not by a single plain statement.
    """
    state = instance_state(instance)
    is_new = state.key is None
    plan = storing_plan_of(instance, is_new=is_new) if is_new or state.modified else None
    if plan is None:
        return None
    if is_new:
        row = plan.new_row(instance)
        if row is None:
            return None
        lock = StoreLock(instance)
        return lock, partial(persistence.insert_plainly, lock=lock, plan=plan, row=row)
    changes = plan.changes(instance)
    if changes is None:
        return None
    lock = StoreLock(instance)
    return lock, partial(persistence.update_plainly, lock=lock, plan=plan, changes=changes)


async def _stored(
    place: Place,
    work: Work[T],
    objects: tuple[Any, ...],
    *,
    alone: bool,
    built_at: CallSite | None,
) -> T:
    try:
        return await run(place, work, alone=alone, built_at=built_at)
    except StaleDataError as error:
        if any(object_mapper(instance).version_id_col is not None for instance in objects):
            raise  # changed by somebody else, or deleted: it is up to the model's owner
        raise persistence.gone(objects[0]) from error


async def _save(place: Place, instance: Any, built_at: CallSite | None) -> None:
    await store(place, instance, built_at)


async def _delete(place: Place, instance: Any, built_at: CallSite | None) -> None:
    others = cascades.hanging_on(instance)
    cascades.check_can_be_added(instance, others)
    check_same_place(place, instance, others)
    alone = cascades.is_deleted_alone(object_mapper(instance))
    work = partial(persistence.remove_alone if alone else persistence.remove, instance=instance)
    await run(place, work, alone=alone, built_at=built_at)


async def _refresh(
    place: Place, instance: Any, names: tuple[str, ...], built_at: CallSite | None
) -> None:
    cascades.check_can_be_added(instance, cascades.hanging_on(instance))
    alone = all(name in object_mapper(instance).column_attrs for name in names)
    work = partial(persistence.refresh, instance=instance, names=names)
    await place.run(work, autocommit=alone, built_at=built_at)


def _check_is_stored(instance: Any, what: str) -> None:
    if instance_state(instance).key is None:
        raise ObjectNotFound(
            f"This {type(instance).__name__} has not been stored, so it cannot be {what}. "
            "save() it first."
        )
