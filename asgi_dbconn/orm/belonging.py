"""The place of an object, and the check that all that is stored together has the same place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import object_mapper
from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.binding import INHERIT, Binding
from asgi_dbconn.orm.origin_rest import origin_of
from asgi_dbconn.orm.target import Place

__all__ = ["check_same_place", "place_of"]


def place_of(instance: Any) -> Place:
    """Return where ``instance`` came from; for a new one, where a query would go at this moment.

    Raises ConfigurationError if its class has no registry.
    """
    binding, name = getattr(type(instance), "__dbconn__", (None, None))
    if binding is None:
        raise ConfigurationError(
            f"{type(instance).__name__} is bound to no registry. Give one to its base: "
            "class Base(Queryable, DeclarativeBase, registry=models)."
        )
    return _place(instance, binding, binding.find_database(name))


def check_same_place(place: Place, instance: Any, others: Sequence[Any]) -> None:
    """Raise ConfigurationError if one of ``others`` is stored elsewhere than in ``place``.

    A row of the same key, but another tenant's, would be written or referred to.
    """
    for other in others:
        if instance_state(other).key is None:
            continue  # new: it goes where the others go
        bound = hasattr(type(other), "__dbconn__")
        theirs = place_of(other) if bound else _place(other, place.binding, place.home)
        if _seen_by(other, theirs) != _seen_by(other, place):
            raise ConfigurationError(
                f"This {type(instance).__name__} and the {type(other).__name__} that hangs on it "
                "come from different databases or schemas, and what is stored together is stored "
                "in one. Load both from the same."
            )


def _place(instance: Any, binding: Binding, home: Database) -> Place:
    if instance_state(instance).key is None:
        return Place(binding, home, home, INHERIT)
    return Place.of_origin(binding, home, origin_of(instance))


def _seen_by(instance: Any, place: Place) -> tuple[Database, str | None]:
    """Return where ``place`` is for the tables of ``instance``.

    Tables that name a schema stay there.
    """
    tables = object_mapper(instance).tables
    remapped = any(getattr(table, "schema", None) is None for table in tables)
    return place.database, place.effective_schema() if remapped else None
