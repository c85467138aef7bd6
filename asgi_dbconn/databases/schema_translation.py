"""The schema of the statements on one connection, for each task that shares it.

SQLAlchemy translates schemas by an option of the connection, and a change would be seen by all
tasks that share it: while one task's statement is under way in its schema, the next one's is
prepared already. So the option is not set at all. Once a schema was used on it, the connection
computes its options for each task that reads them, with the schema of that task. Nothing is
switched, so nothing has to be switched back.

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
    """Return whether a block in ``schema`` would change nothing: none was ever used on it."""
    return (
        schema is None
        and not isinstance(connection, _SharedConnection)
        and _MAP not in connection.get_execution_options()
    )


@contextmanager
def translate_schema(
    connection: Connection, schema: str | None, *, others: str | None = None
) -> Iterator[None]:
    """Run the statements of the block on ``connection`` in ``schema``; None is no schema.

    That holds for this task and for those that it starts. ``others`` is the schema of tasks that
    are in no such block, unless it was set before. The block may be left after the connection was
    closed.
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
    """A connection that several tasks use with schemas; its class is changed while it is in use."""

    schema_of_others: str | None

    @property
    def _execution_options(self) -> immutabledict[str, Any]:
        options: immutabledict[str, Any] = self.__dict__[_OPTIONS]
        schemas = _schemas.get()
        schema = schemas.get(self, self.schema_of_others)
        if schema is None and (self not in schemas or _MAP not in options):
            return options
        # A map that was set by hand still serves tables that name a schema.
        by_hand = {name: to for name, to in (options.get(_MAP) or {}).items() if name is not None}
        ours = by_hand if schema is None else {**by_hand, None: schema}
        mapped: immutabledict[str, Any] = options.union({_MAP: _OurMap(ours)})
        return mapped

    @_execution_options.setter
    def _execution_options(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, options: immutabledict[str, Any]
    ) -> None:
        # SQLAlchemy adds to the options that it has read before, with our map in them.
        if isinstance(options.get(_MAP), _OurMap):
            by_hand = self.__dict__[_OPTIONS].get(_MAP)
            options = options.union({_MAP: by_hand})
        self.__dict__[_OPTIONS] = options


class _OurMap(dict[str | None, str | None]):
    """A map of ours, to tell it from one that was set by hand. An empty one counts as none."""
