"""The target of a query: its database and schema, and the line of user code that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection

from asgi_dbconn.call_site import CallSite, find_call_site
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.schema_translation import is_untranslated, translate_schema
from asgi_dbconn.databases.scopes import Scope, current_scope
from asgi_dbconn.errors import ConfigurationError, InvalidSchemaName
from asgi_dbconn.orm.binding import INHERIT, Binding, Choice, DatabaseChoice
from asgi_dbconn.orm.origin import (
    Origin,
    describe,
    is_shared,
    location_of,
    origin_in,
    resolve_origin,
)
from asgi_dbconn.orm.references import Reference
from asgi_dbconn.schema_names import check_schema

__all__ = ["QueryTarget", "Work", "check_same_target", "refuse_on_sqlite"]

R = TypeVar("R")

Work = Callable[[Connection, Origin], R]
"""Work on a connection. The origin, a label of database and schema, is for the objects that it
loads or stores there.
"""


@dataclass(frozen=True, slots=True)
class QueryTarget:
    """An immutable target.

    The schema of the context is looked up when the query runs, not before.
    """

    binding: Binding
    own_database: Database
    """The model's own database."""
    database: Database
    schema: str | Choice | None = INHERIT
    call_site: CallSite | None = None
    """The line of user code that a warning names, while the database is not connected."""

    @classmethod
    def of_origin(cls, binding: Binding, home: Database, origin: Origin) -> QueryTarget:
        """Return the target of an object with that origin, whatever the context."""
        database, schema = resolve_origin(origin, binding, home)
        return cls(binding, home, database, schema)

    def using(self, database: DatabaseChoice | Choice, schema: str | Choice | None) -> QueryTarget:
        """Return the target with another database, another schema, or both.

        Raises UnknownDatabase, InvalidSchemaName.
        """
        target = self
        if not isinstance(database, Choice):
            target = replace(target, database=self.binding.find_database(database))
        if not isinstance(schema, Choice):
            target = replace(target, schema=check_schema(schema))
        if not isinstance(target.schema, Choice):
            refuse_on_sqlite(target.database, target.schema)
        return target

    def resolve(self) -> QueryTarget:
        """Return the target with the current schema fixed, whatever the context is later."""
        return replace(self, schema=self.effective_schema())

    def effective_schema(self) -> str | None:
        """Return the schema: ``using(schema=)`` over ``with_schema`` over ``Registry(schema=)``."""
        schema = self.schema
        if isinstance(schema, Choice):
            schema = self.binding.current_schema()
        if schema is not None:
            refuse_on_sqlite(self.database, schema)
        return schema

    def here(self) -> QueryTarget:
        """Return this target with the line of user code that calls this.

        A connected database needs no warning, so the target stays the same object.
        """
        if self.database.is_connected:
            return self
        return replace(self, call_site=find_call_site())

    def scope(self) -> Scope | None:
        """Return the scope of the database that is open in this context."""
        return current_scope(self.database)

    async def run(
        self,
        work: Work[R],
        *,
        autocommit: bool,
        scope: Scope | None = None,
        references: Sequence[Reference] = (),
    ) -> R:
        """Run ``work`` on that database, in a greenlet in which it can await; see
        ``Database.run``.

        If ``scope`` is given, its connection is used, whatever scope the context has. Raises
        TransactionClosed if its block has ended. ``references`` are the objects that the work
        compares with or refers to. Raises ConfigurationError if one has another target.
        """
        schema = self.effective_schema()
        if references:
            check_same_target(self, "The query goes to", references)
        work_in_schema = partial(
            _in_schema,
            schema,
            origin_in(self.database, schema, self.binding, self.own_database),
            work,
        )
        if scope is None:
            return await self.database.run(
                work_in_schema, autocommit=autocommit, call_site=self.call_site
            )
        innermost = current_scope(self.database)
        if innermost is None or innermost.checkout is not scope.checkout:
            innermost = scope
        return await innermost.run(work_in_schema)


def check_same_target(
    target: QueryTarget, subject: str, states: Iterable[Reference], *, is_stored: bool = False
) -> None:
    """Raise ConfigurationError if a stored object has another target than ``target``.

    Another tenant's row with the same key would be found, written or referred to. New objects take
    the target. A query may compare models of two databases, if each is in its own: objects that
    are stored together may not.
    """
    here = (target.database, target.effective_schema())
    is_in_own = target.database is target.own_database and not is_stored
    for state in states:
        if state.key is None:
            continue
        home, there = _target_of_state(state, target)
        is_near = there[0] is here[0] or (is_in_own and there[0] is home)
        if not is_near or (there[1] != here[1] and not is_shared(state.mapper)):
            raise ConfigurationError(
                f"{subject} {describe(*here)}, and the {state.class_.__name__} comes from "
                f"{describe(*there)}, so its key is that of another row. Load both from the same."
            )


def _target_of_state(
    state: Reference, target: QueryTarget
) -> tuple[Database, tuple[Database, str | None]]:
    """Return the own database of the model, and the database and schema of the object."""
    binding, name = getattr(state.class_, "__dbconn__", (None, None))
    if binding is None:
        binding, home = target.binding, target.own_database
    else:
        home = binding.find_database(name)
    return home, location_of(state, binding, home)


def refuse_on_sqlite(database: Database, schema: str | None) -> None:
    """Raise InvalidSchemaName for a schema on a ``database`` that has none."""
    if schema is not None and database.url.dialect == "sqlite":
        raise InvalidSchemaName(
            f"The database {database.name or 'default'!r} is SQLite, which has no schemas, so "
            f"there is no {schema!r} in it. Use a database of its own for each."
        )


def _in_schema(schema: str | None, origin: Origin, work: Work[R], connection: Connection) -> R:
    if is_untranslated(connection, schema):
        return work(connection, origin)
    with translate_schema(connection, schema):
        return work(connection, origin)
