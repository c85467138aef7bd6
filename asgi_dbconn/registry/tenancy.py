"""Which schema the queries of a context run in, and scopes that carry it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from typing import TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.schema_of_task import in_schema
from asgi_dbconn.databases.scope_session import ScopeSession
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.binding import INHERIT, Choice
from asgi_dbconn.orm.place import refuse_on_sqlite
from asgi_dbconn.orm.visiting import track_objects
from asgi_dbconn.schemas import check_schema

__all__ = ["SchemaChoice", "bound_connection"]

S = TypeVar("S")


class SchemaChoice:
    """Of one registry: its default, and what ``with_schema`` says in this context."""

    def __init__(self, default: str | None) -> None:
        self._default = check_schema(default)
        self._chosen: ContextVar[str | Choice | None] = ContextVar("schema", default=INHERIT)

    def current(self) -> str | None:
        chosen = self._chosen.get()
        return self._default if isinstance(chosen, Choice) else chosen

    def chosen(self, schema: str | None) -> AbstractContextManager[None]:
        """``schema`` for the block, its tasks included; None is no schema.

        Raises InvalidSchemaName at once, and ConfigurationError at the end of a block that was
        entered in another context: what ran in between did not see the schema.
        """
        return self._shown(check_schema(schema))

    @contextmanager
    def _shown(self, schema: str | None) -> Iterator[None]:
        token = self._chosen.set(schema)
        try:
            yield
        finally:
            try:
                self._chosen.reset(token)
            except ValueError as error:
                raise ConfigurationError(
                    f"with_schema({schema!r}) was entered in one context and left in another, and "
                    "what ran in between may not have seen the schema. A dependency that enters "
                    "it has to be `async def`: a synchronous one runs in a thread of its own."
                ) from error

    @asynccontextmanager
    async def carried(
        self,
        database: Database,
        scope: AbstractAsyncContextManager[S],
        connection_of: Callable[[S], AsyncConnection],
    ) -> AsyncIterator[S]:
        """``scope``, whose plain SQLAlchemy statements run in the current schema, too."""
        schema = self.current()
        refuse_on_sqlite(database, schema)
        # A part of an outer scope shares its connection, which others see as it was.
        others = schema if current_scope(database) is None else None
        # Around the scope, because its end may flush.
        with ExitStack() as carried:
            async with scope as opened:
                connection = connection_of(opened).sync_connection
                if connection is not None:
                    carried.enter_context(in_schema(connection, schema, others=others))
                if isinstance(opened, AsyncSession) and isinstance(
                    opened.sync_session, ScopeSession
                ):
                    track_objects(opened.sync_session, database, schema)
                yield opened


def bound_connection(session: AsyncSession) -> AsyncConnection:
    """The connection that a session of ours was made for."""
    return cast("AsyncConnection", session.bind)
