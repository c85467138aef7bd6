"""Entries of blocks that carry a schema for plain SQLAlchemy statements."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.blocks import Entry
from asgi_dbconn.databases.commit_callbacks import CommitCallbacks
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.schema_translation import in_schema, is_out_of_play
from asgi_dbconn.databases.scope_session import ScopeSession
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.transactions import Transaction, scope_of
from asgi_dbconn.orm.origin import track_objects

__all__ = ["SchemaEntry"]

S = TypeVar("S")


class SchemaEntry(Generic[S]):
    """An entry of a block whose connection translates to a schema, for the task that enters it."""

    __slots__ = ("_database", "_entry", "_schema", "_translation")

    def __init__(self, entry: Entry[S], database: Database, schema: str | None) -> None:
        self._entry = entry
        self._database = database
        self._schema = schema
        self._translation: AbstractContextManager[None] | None = None

    @property
    def value(self) -> S:
        return self._entry.value

    async def enter(self) -> None:
        # A part of an outer scope shares its connection, which others see as it was.
        is_outermost = current_scope(self._database) is None
        await self._entry.enter()
        value = self._entry.value
        connection = _connection_of(value)
        others = self._schema if is_outermost else None
        if connection is not None and not (
            others is None and is_out_of_play(connection, self._schema)
        ):
            self._translation = in_schema(connection, self._schema, others=others)
            self._translation.__enter__()
        if isinstance(value, AsyncSession) and isinstance(value.sync_session, ScopeSession):
            track_objects(value.sync_session, self._database, self._schema)

    async def leave(self, error: BaseException | None) -> None:
        # Around the end of the block, which may flush.
        try:
            await self._entry.leave(error)
        finally:
            if self._translation is not None:
                self._translation.__exit__(None, None, None)

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        return self._entry.callbacks_after_commit()


def _connection_of(value: object) -> Connection | None:
    """Return the connection below what a block returns, on whatever loop."""
    if isinstance(value, Transaction):
        return scope_of(value).checkout.connection
    if isinstance(value, AsyncSession):
        value = value.bind
    return value.sync_connection if isinstance(value, AsyncConnection) else None
