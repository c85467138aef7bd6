"""``save()``, ``delete()`` and ``refresh()`` of a model's own objects."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import object_mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.exc import StaleDataError

from asgi_dbconn.errors import FieldError
from asgi_dbconn.orm import storing
from asgi_dbconn.orm.binding import INHERIT, Binding
from asgi_dbconn.orm.errors import ObjectNotFound
from asgi_dbconn.orm.place import Origin, Place, Work

__all__ = ["delete", "is_stored_alone", "refresh", "save"]

R = TypeVar("R")


class _Bound(Protocol):
    __dbconn__: tuple[Binding, str | None]


async def save(instance: Any) -> None:
    """Store ``instance``: an INSERT if it is new, else one UPDATE of what was changed."""
    if instance_state(instance).key is None:
        work: Work[Any] = partial(storing.insert, instance=instance)
    elif not instance_state(instance).modified:
        return  # nothing to send
    else:
        work = partial(storing.change, instance=instance)
    await _do(instance, work, alone=is_stored_alone(instance))


async def delete(instance: Any) -> None:
    """Delete the row of ``instance``, with the cascades of its relationships."""
    _check_is_stored(instance, "deleted")
    alone = len(object_mapper(instance).tables) == 1 and not object_mapper(instance).relationships
    await _do(instance, partial(storing.remove, instance=instance), alone=alone)
    instance_state(instance).key = None  # as if it had never been stored


async def refresh(instance: Any, names: tuple[str, ...]) -> None:
    """Load columns or relations of ``instance`` anew."""
    _check_is_stored(instance, "refreshed")
    mapper = object_mapper(instance)
    for name in names:
        if name not in mapper.attrs:
            there_are = ", ".join(sorted(mapper.attrs.keys()))
            raise FieldError(
                f"{type(instance).__name__} has nothing called {name!r} to load. "
                f"There are: {there_are}."
            )
    alone = all(name in mapper.column_attrs for name in names) and len(mapper.tables) == 1
    await _do(instance, partial(storing.refresh, instance=instance, names=names), alone=alone)


def is_stored_alone(instance: Any) -> bool:
    """Whether storing it takes a single statement: nothing related hangs on it."""
    mapper = object_mapper(instance)
    # Asked of the object: related ones may come under other names, or from its constructor.
    present = instance_dict(instance)
    related = any(present.get(each.key) for each in mapper.relationships)
    return len(mapper.tables) == 1 and not related


async def _do(instance: Any, work: Work[R], *, alone: bool) -> R:
    place = _place_of(instance)
    try:
        return await place.run(work, autocommit=alone, built_at=place.built_at())
    except StaleDataError as error:
        raise _gone(instance) from error
    except InvalidRequestError as error:
        if "Could not refresh" in str(error):
            raise _gone(instance) from error
        raise


def _place_of(instance: _Bound) -> Place:
    binding, name = type(instance).__dbconn__
    home = binding.find_database(name)
    state = instance_state(instance)
    if state.key is None:
        return Place(binding, home, home, INHERIT)  # new: where a query of this moment would go
    return Place.of_origin(binding, home, cast("Origin", state.identity_token))


def _check_is_stored(instance: Any, what: str) -> None:
    if inspect(instance).key is None:
        raise ObjectNotFound(
            f"This {type(instance).__name__} has not been stored, so it cannot be {what}. "
            "save() it first."
        )


def _gone(instance: Any) -> ObjectNotFound:
    return ObjectNotFound(
        f"The row of this {type(instance).__name__} is not there any more: it was deleted, or its "
        "primary key was changed."
    )
