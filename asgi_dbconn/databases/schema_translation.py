"""The schema of the statements on one connection, for each task that shares it.

SQLAlchemy translates schemas by an option of the connection, which all who share it would see
change: while one task's statement is under way in its schema, the next one's is prepared already.
So the option is not set at all. Once schemas are in play, the connection answers each task that
asks for its options with that task's own schema; nothing is switched over, and nothing can be left
switched.

That takes one private name of SQLAlchemy, ``Connection._execution_options``, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.util import immutabledict

from asgi_dbconn.pools.pooled_connection import PooledConnection

__all__ = ["is_untranslated", "translate_schema"]

_MAP: Final = "schema_translate_map"
_OPTIONS: Final = "_execution_options"
_NOTHING: Mapping[Connection, str | None] = MappingProxyType({})
_schemas: ContextVar[Mapping[Connection, str | None]] = ContextVar(
    "asgi_dbconn_schemas", default=_NOTHING
)


def is_untranslated(connection: Connection, schema: str | None) -> bool:
    """Return whether a block in ``schema`` would change nothing: no schema was ever used on it."""
    return (
        schema is None
        and not isinstance(connection, _SharedConnection)
        and _MAP not in connection.get_execution_options()
    )


@contextmanager
def translate_schema(
    connection: Connection, schema: str | None, *, others: str | None = None
) -> Iterator[None]:
    """Let statements on ``connection`` inside the block be about ``schema``; None is no schema.

    These are the statements of this task and of those it starts.

    ``others`` is what tasks see that are in no such block, if that was not said before. It may be
    left after the connection was closed.
    """
    if others is None and is_untranslated(connection, schema):
        yield
        return
    if not isinstance(connection, _SharedConnection):
        connection.__class__ = _SharedConnection
        connection.__dict__["schema_of_others"] = others
    token = _schemas.set({**_schemas.get(), connection: schema})
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context than it was entered in
            _schemas.reset(token)


class _SharedConnection(PooledConnection):
    """A connection that became one, while it was in use, of several tasks and schemas."""

    schema_of_others: str | None

    @property
    def _execution_options(self) -> immutabledict[str, Any]:
        options: immutabledict[str, Any] = self.__dict__[_OPTIONS]
        schemas = _schemas.get()
        schema = schemas.get(self, self.schema_of_others)
        if schema is None and (self not in schemas or _MAP not in options):
            return options
        # A map that was set by hand goes on to serve tables that name a schema.
        by_hand = {name: to for name, to in (options.get(_MAP) or {}).items() if name is not None}
        ours = by_hand if schema is None else {**by_hand, None: schema}
        mapped: immutabledict[str, Any] = options.union({_MAP: _OurMap(ours)})
        return mapped

    @_execution_options.setter
    def _execution_options(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, options: immutabledict[str, Any]
    ) -> None:
        # Options that are added to are those that were read before, our map included.
        if isinstance(options.get(_MAP), _OurMap):
            by_hand = self.__dict__[_OPTIONS].get(_MAP)
            options = options.union({_MAP: by_hand})
        self.__dict__[_OPTIONS] = options


class _OurMap(dict[str | None, str | None]):
    """A map that can be told from one that was set by hand. An empty one is none."""
