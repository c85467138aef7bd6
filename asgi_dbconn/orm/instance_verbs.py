"""``save()``, ``delete()`` and ``refresh()`` of one object, at the target where it belongs.

All objects that are stored together must have the same target.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.orm import object_mapper
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import StaleDataError

from asgi_dbconn.errors import ConfigurationError, FieldError
from asgi_dbconn.orm import cascades, persistence
from asgi_dbconn.orm.binding import INHERIT
from asgi_dbconn.orm.errors import ObjectNotFound
from asgi_dbconn.orm.fast_path.write_plans import write_plan
from asgi_dbconn.orm.origin import origin_of
from asgi_dbconn.orm.references import Reference
from asgi_dbconn.orm.store_lock import StoreLock
from asgi_dbconn.orm.target import QueryTarget, Work, check_same_target

__all__ = ["delete", "refresh", "run", "save", "store", "target_of"]

R = TypeVar("R")
T = TypeVar("T")


def target_of(instance: Any) -> QueryTarget:
    """Return the target that ``instance`` came from. For a new object, the target of a query made
    now.

    Raises ConfigurationError if its class has no registry.
    """
    binding, name = getattr(type(instance), "__dbconn__", (None, None))
    if binding is None:
        raise ConfigurationError(
            f"{type(instance).__name__} is bound to no registry. Give one to its base: "
            "class Base(Queryable, DeclarativeBase, registry=models)."
        )
    home = binding.find_database(name)
    if instance_state(instance).key is None:
        return QueryTarget(binding, home, home, INHERIT)
    return QueryTarget.of_origin(binding, home, origin_of(instance))


def save(instance: Any) -> Coroutine[Any, Any, None]:
    """Store ``instance``: an INSERT if it is new, else one UPDATE of the changed columns."""
    return _save(target_of(instance).here(), instance)


async def store(target: QueryTarget, instance: T, *, is_known: bool = True) -> T:
    """Store ``instance`` at ``target`` with the new and dirty objects of its cascades.

    An object that the caller does not hold yet (``is_known=False``) is removed from the relations
    of others if storing fails.
    """
    try:
        fast = _find_fast_work(instance)
        if fast is not None:
            lock, work = fast
            cascades.check_can_be_added(instance, ())
            with lock:
                return await _store_fast(target, work, (instance,), alone=True)
        others = cascades.cascaded_objects(instance)
        cascades.check_can_be_added(instance, others)
        check_same_target(target, _name(instance), map(instance_state, others), is_stored=True)
        if not any(cascades.is_dirty(other) for other in (instance, *others)):
            return instance  # nothing to send
        alone = cascades.needs_one_statement(instance, others)
        work = partial(persistence.store, instance=instance, alone=alone)
        return await _store_fast(target, work, (instance, *others), alone=alone)
    except BaseException:
        if not is_known:
            cascades.unlink(instance)
        raise


def delete(instance: Any) -> Coroutine[Any, Any, None]:
    """Delete the row of ``instance``, with the cascades of its relationships."""
    _check_is_stored(instance, "deleted")
    return _delete(target_of(instance).here(), instance)


def refresh(instance: Any, names: tuple[str, ...]) -> Coroutine[Any, Any, None]:
    """Reload columns or relations of ``instance``."""
    _check_is_stored(instance, "refreshed")
    target, mapper = target_of(instance), object_mapper(instance)
    for name in names:
        if name not in mapper.attrs:
            there_are = ", ".join(sorted(mapper.attrs.keys()))
            raise FieldError(
                f"{type(instance).__name__} has nothing called {name!r} to load. "
                f"There are: {there_are}."
            )
    return _refresh(target.here(), instance, names)


async def run(
    target: QueryTarget, work: Work[R], *, alone: bool, references: Sequence[Reference] = ()
) -> R:
    """Run ``work``, which writes: in a transaction, unless it is a single statement (``alone``)."""
    if alone or target.scope() is not None:
        return await target.run(work, autocommit=alone, references=references)
    check_same_target(target, "The query goes to", references)  # raises before anything begins
    # SQLite: a transaction that reads first and writes later must begin with the write lock.
    async with target.database.verb_transaction():
        return await target.run(work, autocommit=False)


def _find_fast_work(instance: T) -> tuple[StoreLock, Work[T]] | None:
    """Return the work that stores the object without a Session.

    None if that takes no statement, or more than a single plain one.
    """
    state = instance_state(instance)
    is_new = state.key is None
    plan = write_plan(instance, is_new=is_new) if is_new or state.modified else None
    if plan is None:
        return None
    if is_new:
        row = plan.new_row(instance)
        if row is None:
            return None
        lock = StoreLock(instance)
        return lock, partial(persistence.insert_fast, lock=lock, plan=plan, row=row)
    changes = plan.changes(instance)
    if changes is None:
        return None
    lock = StoreLock(instance)
    return lock, partial(persistence.update_fast, lock=lock, plan=plan, changes=changes)


async def _store_fast(
    target: QueryTarget,
    work: Work[T],
    objects: tuple[Any, ...],
    *,
    alone: bool,
) -> T:
    try:
        return await run(target, work, alone=alone)
    except StaleDataError as error:
        if any(object_mapper(instance).version_id_col is not None for instance in objects):
            raise  # changed or deleted by another transaction: the application decides
        raise persistence.row_missing(objects[0]) from error


async def _save(target: QueryTarget, instance: Any) -> None:
    await store(target, instance)


async def _delete(target: QueryTarget, instance: Any) -> None:
    others = cascades.cascaded_objects(instance)
    cascades.check_can_be_added(instance, others)
    check_same_target(target, _name(instance), map(instance_state, others), is_stored=True)
    alone = cascades.can_be_deleted_alone(object_mapper(instance))
    work = partial(
        persistence.delete_fast if alone else persistence.delete_object, instance=instance
    )
    await run(target, work, alone=alone)


async def _refresh(target: QueryTarget, instance: Any, names: tuple[str, ...]) -> None:
    cascades.check_can_be_added(instance, cascades.cascaded_objects(instance))
    alone = all(name in object_mapper(instance).column_attrs for name in names)
    work = partial(persistence.refresh, instance=instance, names=names)
    await target.run(work, autocommit=alone)


def _check_is_stored(instance: Any, what: str) -> None:
    if instance_state(instance).key is None:
        raise ObjectNotFound(
            f"This {type(instance).__name__} has not been stored, so it cannot be {what}. "
            "save() it first."
        )


def _name(instance: Any) -> str:
    return f"This {type(instance).__name__} belongs to"
