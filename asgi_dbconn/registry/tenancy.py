"""Which schema the queries of a context run in, and scopes that carry it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.database import Database
from asgi_dbconn.orm.binding import INHERIT, Choice
from asgi_dbconn.orm.place import refuse_on_sqlite
from asgi_dbconn.schemas import check_schema

__all__ = ["SchemaChoice", "bound_connection"]

S = TypeVar("S")

_MAP: Final = "schema_translate_map"


class SchemaChoice:
    """Of one registry: its default, and what ``with_schema`` says in this context."""

    def __init__(self, default: str | None) -> None:
        self._default = check_schema(default)
        self._chosen: ContextVar[str | Choice | None] = ContextVar("schema", default=INHERIT)

    def current(self) -> str | None:
        chosen = self._chosen.get()
        return self._default if isinstance(chosen, Choice) else chosen

    @contextmanager
    def chosen(self, schema: str | None) -> Iterator[None]:
        """``schema`` for the block, its tasks included; None is no schema."""
        token = self._chosen.set(check_schema(schema))
        try:
            yield
        finally:
            self._chosen.reset(token)

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
        async with scope as opened:
            connection = connection_of(opened).sync_connection
            before = None
            if connection is not None:
                before = connection.get_execution_options().get(_MAP)
                connection.execution_options(**{_MAP: None if schema is None else {None: schema}})
            try:
                yield opened
            finally:
                # A part of an outer scope shares its connection.
                if connection is not None and not connection.closed:
                    connection.execution_options(**{_MAP: before})


def bound_connection(session: AsyncSession) -> AsyncConnection:
    """The connection that a session of ours was made for."""
    return cast("AsyncConnection", session.bind)
