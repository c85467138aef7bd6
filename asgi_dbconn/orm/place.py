"""Where a query runs: which database, which schema."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sqlalchemy.engine import Connection

from asgi_dbconn.call_site import CallSite, building_line
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.errors import InvalidSchemaName, UnknownDatabase
from asgi_dbconn.orm.binding import INHERIT, Binding, Choice, DatabaseChoice
from asgi_dbconn.schemas import check_schema

__all__ = ["Origin", "Place", "Work", "refuse_on_sqlite"]

R = TypeVar("R")

Origin = tuple[str | None, str | None] | None
"""Where an object came from: database and schema. None is the model's own database and no schema;
it is the identity token of the object, which survives detaching, pickling and copying."""
Work = Callable[[Connection, Mapping[str, Any], Origin], R]
"""What is done on a connection, with the execution options of the place and its origin."""

_NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})
_MAP: Final = "schema_translate_map"
_DEFAULT: Final = ""
_STRANGER: Final = "\0"  # no name of a registry begins like that
# Databases that belong to no registry, by the label that their objects carry.
_strangers: Final[weakref.WeakValueDictionary[str, Database]] = weakref.WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Place:
    """Immutable. The schema that is ambient is looked up when the query runs, not before."""

    binding: Binding
    home: Database
    """The model's own database."""
    database: Database
    schema: str | Choice | None = INHERIT

    @classmethod
    def of_origin(cls, binding: Binding, home: Database, origin: Origin) -> Place:
        """Where an object with that origin has to go back to, whatever is ambient."""
        if origin is None:
            return cls(binding, home, home, None)
        label, schema = origin
        return cls(binding, home, _database_of(label, binding, home), schema)

    def using(self, database: DatabaseChoice | Choice, schema: str | Choice | None) -> Place:
        """Another database, another schema, or both. Raises UnknownDatabase, InvalidSchemaName."""
        place = self
        if not isinstance(database, Choice):
            place = replace(place, database=self.binding.find_database(database))
        if not isinstance(schema, Choice):
            place = replace(place, schema=check_schema(schema))
            place.effective_schema()
        return place

    def effective_schema(self) -> str | None:
        """``using(schema=)`` over ``with_schema`` over ``Registry(schema=)``."""
        schema = self.schema
        if isinstance(schema, Choice):
            schema = self.binding.current_schema()
        refuse_on_sqlite(self.database, schema)
        return schema

    def built_at(self) -> CallSite | None:
        """The line of the user's code that calls; only where a warning may need it."""
        return None if self.database.is_connected else building_line()

    def is_in_scope(self) -> bool:
        """Whether a scope of the database is open in this context."""
        return current_scope(self.database) is not None

    async def run(self, work: Work[R], *, autocommit: bool, built_at: CallSite | None) -> R:
        """Do ``work`` there, inside one of SQLAlchemy's greenlets; see ``Database.run``."""
        schema = self.effective_schema()
        return await self.database.run(
            partial(_in_schema, schema, self._origin(schema), work),
            autocommit=autocommit,
            built_at=built_at,
        )

    def _origin(self, schema: str | None) -> Origin:
        if self.database is self.home:
            return None if schema is None else (None, schema)
        for name, each in self.binding.databases.items():
            if each is self.database:
                return (_DEFAULT if name is None else name, schema)
        label = f"{_STRANGER}{id(self.database)}"
        _strangers[label] = self.database
        return (label, schema)


def refuse_on_sqlite(database: Database, schema: str | None) -> None:
    """Raise InvalidSchemaName if ``database`` has no schemas and is to use one."""
    if schema is not None and database.url.dialect == "sqlite":
        raise InvalidSchemaName(
            f"The database {database.name or 'default'!r} is SQLite, which has no schemas, so "
            f"there is no {schema!r} in it. Use a database of its own for each."
        )


def _database_of(label: str | None, binding: Binding, home: Database) -> Database:
    if label is None:
        return home
    if not label.startswith(_STRANGER):
        return binding.find_database(None if label == _DEFAULT else label)
    database = _strangers.get(label)
    if database is None:
        raise UnknownDatabase(
            "This object came from a Database that belongs to no registry and does not exist any "
            "more. Load it again with using(database=...)."
        )
    return database


def _in_schema(schema: str | None, origin: Origin, work: Work[R], connection: Connection) -> R:
    # With every statement, never on the connection: that is shared by all who are in its scope.
    ambient = connection.get_execution_options().get(_MAP)
    wanted = None if schema is None else {None: schema}
    options = _NO_OPTIONS if ambient == wanted else {_MAP: wanted}
    return work(connection, options, origin)
