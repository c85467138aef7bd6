"""Objects that pass through a session of the user's own, and know afterwards where they were.

Inside, they are SQLAlchemy's plain objects, so that whatever looks for one in the session by its
primary key finds it. When the session lets them go, they carry the origin of its scope.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, object_mapper
from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.graph import check_is_not_being_stored
from asgi_dbconn.orm.origin import note_origin, origin_in, origin_of, whereabouts

__all__ = ["note_origins"]


def note_origins(session: Session, database: Database, schema: str | None) -> None:
    """Let the objects of ``session`` know, when they leave it, that they come from there.

    Adding one that came from somewhere else is a ConfigurationError: its changes would be written
    to the row of another object that happens to have the same primary key.
    """
    event.listen(session, "before_attach", partial(_enter, database, schema))
    event.listen(session, "persistent_to_detached", partial(_leave, database, schema))


def _enter(database: Database, schema: str | None, _: Session, instance: Any) -> None:
    check_is_not_being_stored(instance)
    bound = getattr(type(instance), "__dbconn__", None)
    state = instance_state(instance)
    if bound is None or state.key is None:
        return
    binding, name = bound
    came_from = whereabouts(origin_of(instance), binding, binding.find_database(name))
    if came_from != (database, schema) and not (came_from[0] is database and _is_shared(instance)):
        raise ConfigurationError(
            f"This {type(instance).__name__} came from {_place(*came_from)}, and the session works "
            f"in {_place(database, schema)}. Store it with its own save(), or copy it on purpose "
            "with session.merge()."
        )
    note_origin(instance, None)


def _leave(database: Database, schema: str | None, _: Session, instance: Any) -> None:
    bound = getattr(type(instance), "__dbconn__", None)
    if bound is not None:
        binding, name = bound
        home = binding.find_database(name)
        note_origin(instance, origin_in(database, schema, binding, home))


def _is_shared(instance: Any) -> bool:
    """Whether it is the same row in every schema, because its tables name their own."""
    return all(getattr(each, "schema", None) for each in object_mapper(instance).tables)


def _place(database: Database, schema: str | None) -> str:
    where = f"the database {database.name or 'default'!r}"
    return f"{where} without a schema" if schema is None else f"the schema {schema!r} of {where}"
