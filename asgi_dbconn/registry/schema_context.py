"""The schema that the queries of a context run in, and scopes whose connections use it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from functools import partial
from typing import Generic, ParamSpec, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.blocks import AsyncFunction, Block, Entry, in_block
from asgi_dbconn.databases.commit_as_you_go import ScopeSession
from asgi_dbconn.databases.commit_callbacks import CommitCallbacks
from asgi_dbconn.databases.database import Database
from asgi_dbconn.databases.schema_translation import is_untranslated, translate_schema
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.transactions import Transaction, scope_of
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.binding import INHERIT, Choice
from asgi_dbconn.orm.origin import track_objects
from asgi_dbconn.orm.target import refuse_on_sqlite
from asgi_dbconn.schema_names import check_schema

__all__ = ["SchemaBlock", "SchemaContext", "SchemaEntry"]

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class SchemaContext:
    """The schemas of one registry: its default, and that of ``with_schema`` in this context."""

    def __init__(self, default: str | None) -> None:
        self._default = check_schema(default)
        self._chosen: ContextVar[str | Choice | None] = ContextVar("schema", default=INHERIT)

    def current(self) -> str | None:
        chosen = self._chosen.get()
        return self._default if isinstance(chosen, Choice) else chosen

    def resolve(self, choice: str | Choice | None) -> str | None:
        """Return the current schema for INHERIT, or else ``choice``, after checking the name.

        Raises InvalidSchemaName.
        """
        return self.current() if isinstance(choice, Choice) else check_schema(choice)

    def choose(self, schema: str | None) -> SchemaBlock:
        """Return a block in ``schema``, also for tasks started inside; None is no schema.

        Raises InvalidSchemaName immediately. At the end of a block that was entered in another
        context it raises ConfigurationError: the code in between did not see the schema.
        """
        return SchemaBlock(self._chosen, check_schema(schema))

    def with_current_schema(self, database: Database, block: Block[S]) -> Block[S]:
        """Return ``block``, with its plain SQLAlchemy statements in the current schema, too.

        The schema is read when the block is entered.
        """
        return Block(partial(self._enter, database, block))

    def _enter(self, database: Database, block: Block[S]) -> Entry[S]:
        schema = self.current()
        refuse_on_sqlite(database, schema)
        return SchemaEntry(block.new_entry(), database, schema)


class SchemaBlock(AbstractContextManager[None]):
    """A schema for the block. May be entered again, and decorates async functions."""

    __slots__ = ("_chosen", "_schema", "_tokens")

    def __init__(self, chosen: ContextVar[str | Choice | None], schema: str | None) -> None:
        self._chosen = chosen
        self._schema = schema
        self._tokens: list[Token[str | Choice | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(self._chosen.set(self._schema))

    def __exit__(self, *exc_info: object) -> None:
        for token in reversed(self._tokens):
            try:
                self._chosen.reset(token)
            except ValueError:
                continue  # the token of another task that has entered the same object
            self._tokens.remove(token)
            return
        self._tokens.pop()
        raise ConfigurationError(
            f"with_schema({self._schema!r}) was entered in one context and left in another, "
            "and the code in between may not have seen the schema. A dependency that enters "
            "it has to be `async def`: a synchronous one runs in a thread of its own."
        )

    def __call__(self, function: AsyncFunction[P, T]) -> AsyncFunction[P, T]:
        return in_block(function, partial(SchemaBlock, self._chosen, self._schema))


class SchemaEntry(Generic[S]):
    """An entry of a block whose connection translates to a schema, for the task that enters."""

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
        # Inside an outer scope the connection is shared; for other tasks it stays as it was.
        is_outermost = current_scope(self._database) is None
        await self._entry.enter()
        value = self._entry.value
        connection = _connection_of(value)
        others = self._schema if is_outermost else None
        if connection is not None and not (
            others is None and is_untranslated(connection, self._schema)
        ):
            self._translation = translate_schema(connection, self._schema, others=others)
            self._translation.__enter__()
        if isinstance(value, AsyncSession) and isinstance(value.sync_session, ScopeSession):
            track_objects(value.sync_session, self._database, self._schema)

    async def leave(self, error: BaseException | None) -> None:
        # The translation ends after the block does: its end may flush.
        try:
            await self._entry.leave(error)
        finally:
            if self._translation is not None:
                self._translation.__exit__(None, None, None)

    def callbacks_after_commit(self) -> CommitCallbacks | None:
        return self._entry.callbacks_after_commit()


def _connection_of(value: object) -> Connection | None:
    """Return the synchronous connection below the value of a block, on any loop."""
    if isinstance(value, Transaction):
        return scope_of(value).checkout.connection
    if isinstance(value, AsyncSession):
        value = value.bind
    return value.sync_connection if isinstance(value, AsyncConnection) else None
