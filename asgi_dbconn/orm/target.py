"""The place where a query runs: which database, which schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sqlalchemy.engine import Connection

from asgi_dbconn.call_site import CallSite, building_line
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.schema_translation import in_schema, is_out_of_play
from asgi_dbconn.databases.scopes import Scope, current_scope
from asgi_dbconn.errors import InvalidSchemaName
from asgi_dbconn.orm.binding import INHERIT, Binding, Choice, DatabaseChoice
from asgi_dbconn.orm.origin import Origin, origin_in, whereabouts
from asgi_dbconn.schema_names import check_schema

__all__ = ["Place", "Work", "refuse_on_sqlite"]

R = TypeVar("R")

Work = Callable[[Connection, Mapping[str, Any], Origin], R]
"""The work on a connection, with the execution options of the place and its origin."""

_NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Place:
    """An immutable place.

    The schema that is ambient is looked up when the query runs, not before.
    """

    binding: Binding
    home: Database
    """The model's own database."""
    database: Database
    schema: str | Choice | None = INHERIT

    @classmethod
    def of_origin(cls, binding: Binding, home: Database, origin: Origin) -> Place:
        """Return where an object with that origin has to go back to, whatever is ambient."""
        database, schema = whereabouts(origin, binding, home)
        return cls(binding, home, database, schema)

    def using(self, database: DatabaseChoice | Choice, schema: str | Choice | None) -> Place:
        """Return the place with another database, another schema, or both.

        Raises UnknownDatabase, InvalidSchemaName.
        """
        place = self
        if not isinstance(database, Choice):
            place = replace(place, database=self.binding.find_database(database))
        if not isinstance(schema, Choice):
            place = replace(place, schema=check_schema(schema))
        if not isinstance(place.schema, Choice):
            refuse_on_sqlite(place.database, place.schema)
        return place

    def settled(self) -> Place:
        """Return the same for good: what is ambient now stays, whatever changes around it."""
        return replace(self, schema=self.effective_schema())

    def effective_schema(self) -> str | None:
        """Return the schema: ``using(schema=)`` over ``with_schema`` over ``Registry(schema=)``."""
        schema = self.schema
        if isinstance(schema, Choice):
            schema = self.binding.current_schema()
        if schema is not None:
            refuse_on_sqlite(self.database, schema)
        return schema

    def built_at(self) -> CallSite | None:
        """Return the line of the user's code that calls; only where a warning may need it."""
        return None if self.database.is_connected else building_line()

    def scope(self) -> Scope | None:
        """Return the scope of the database that is open in this context."""
        return current_scope(self.database)

    async def run(
        self,
        work: Work[R],
        *,
        autocommit: bool,
        built_at: CallSite | None,
        scope: Scope | None = None,
    ) -> R:
        """Do ``work`` there, inside one of SQLAlchemy's greenlets; see ``Database.run``.

        On the connection of ``scope`` if that is given, whatever scope this context is in. Raises
        TransactionClosed if its block has ended.
        """
        schema = self.effective_schema()
        work_in_schema = partial(
            _in_schema, schema, origin_in(self.database, schema, self.binding, self.home), work
        )
        if scope is None:
            return await self.database.run(work_in_schema, autocommit=autocommit, built_at=built_at)
        innermost = current_scope(self.database)
        if innermost is None or innermost.checkout is not scope.checkout:
            innermost = scope
        return await innermost.run(work_in_schema)


def refuse_on_sqlite(database: Database, schema: str | None) -> None:
    """Raise InvalidSchemaName if ``database`` has no schemas and is to use one."""
    if schema is not None and database.url.dialect == "sqlite":
        raise InvalidSchemaName(
            f"The database {database.name or 'default'!r} is SQLite, which has no schemas, so "
            f"there is no {schema!r} in it. Use a database of its own for each."
        )


def _in_schema(schema: str | None, origin: Origin, work: Work[R], connection: Connection) -> R:
    if is_out_of_play(connection, schema):
        return work(connection, _NO_OPTIONS, origin)
    with in_schema(connection, schema):
        return work(connection, _NO_OPTIONS, origin)
