"""Streams of objects, a few rows at a time, on a connection that is released in any case."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import Select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.attributes import instance_state

from asgi_dbconn.databases.scopes import Scope
from asgi_dbconn.errors import (
    ConfigurationError,
    DBConnError,
    TransactionAborted,
    TransactionClosed,
)
from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.orm.loaded_objects import note_states
from asgi_dbconn.orm.object_loading import session_for, whole_objects
from asgi_dbconn.orm.origin import Origin
from asgi_dbconn.orm.query import Query
from asgi_dbconn.orm.target import QueryTarget, Work
from asgi_dbconn.pools.undo_log import undo_log_of

__all__ = ["Stream"]

T = TypeVar("T")
R = TypeVar("R")


class Stream(Generic[T]):
    """A stream of objects: ``async with``, then ``async for``. For one use, by one task at a time.

    The block is a scope like that of ``connection()``. Queries inside join it. Their writes are
    committed at its end, and rolled back if an error leaves it. Inside another scope it joins that
    one, and other statements run between two fetches. Whichever task reads the stream, the rows
    come over the connection of its scope. Reading after the end raises TransactionClosed.
    """

    def __init__(
        self,
        query: Query[T],
        target: QueryTarget,
        rows: int,
    ) -> None:
        if type(rows) is not int or rows < 1:
            raise ConfigurationError(f"stream() takes a number of rows of 1 or more, not {rows!r}.")
        self._query = query
        self._target = target
        self._rows = rows
        self._block: AbstractAsyncContextManager[object] | None = None
        """The block that it opened for itself."""
        self._scope: Scope | None = None
        """The scope of the connection: of its own block, or of one around it."""
        self._cursor: _Cursor[T] | None = None
        self._was_entered = False

    async def __aenter__(self) -> Self:
        if self._was_entered:
            raise TransactionClosed(
                "This stream was entered before, and can be read once. Call stream() for another."
            )
        self._was_entered = True
        self._target = self._target.resolve()  # to load related objects from the same schema
        if self._target.scope() is None:
            self._block = self._target.database.connection()
            await self._block.__aenter__()
        self._scope = self._target.scope()
        try:
            self._cursor = await self._target.run(
                self._open,
                autocommit=False,
                scope=self._scope,
                references=self._query.references,
            )
            if self._block is not None and self._scope is not None:
                self._scope.close_cursor = self._cursor.close
        except BaseException as error:
            if self._block is not None:
                await self._block.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cursor, self._cursor = self._cursor, None
        if self._block is not None:
            # The end of the scope closes the cursor, or stops a running fetch.
            try:
                await self._block.__aexit__(kind, error, traceback)
            finally:
                if cursor is not None:
                    await spawn(cursor.discard)
            return
        if cursor is not None:
            # An aborted transaction closes its cursors, and so does a block that has ended.
            # The error of the stream's block, or else its commit, reports it.
            with suppress(TransactionAborted, TransactionClosed):
                await self._run(cursor.close)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            if self._cursor is None:
                raise TransactionClosed(
                    "This stream's block has ended. Read it inside `async with`."
                    if self._was_entered
                    else "A stream is read inside of its block: `async with User.query.stream() as "
                    "users:`, and then `async for user in users:`."
                )
            batch = await self._run(self._cursor.fetch)
            if not batch:
                return
            for instance in batch:
                yield instance

    async def _run(self, work: Work[R]) -> R:
        return await self._target.run(work, autocommit=False, scope=self._scope)

    def _open(self, connection: Connection, origin: Origin) -> _Cursor[T]:
        query = self._query.one_row_each()
        statement = query.objects().options(*whole_objects(query.mapper))
        # Related objects that it loads by itself come from the same origin.
        token = {} if origin is None else {"identity_token": origin}
        seen: set[Any] | None = set() if query.repeats_objects else None
        return _Cursor(connection, token, statement, self._rows, seen)


class _Cursor(Generic[T]):
    """A server-side cursor, where the database has them. Every method runs on the connection."""

    def __init__(
        self,
        connection: Connection,
        token: Mapping[str, Any],
        statement: Select[T],
        rows: int,
        seen: set[Any] | None,
    ) -> None:
        """``seen`` takes the identity keys, if an object may be in several rows."""
        self._connection = connection
        self._session = session_for(connection, token)
        try:
            result = self._session.execute(statement, execution_options={"yield_per": rows})
        except BaseException:
            self._session.close()
            raise
        self._objects = result.scalars()
        self._batches = self._objects.partitions()
        self._seen = seen

    def fetch(self, *_: Any) -> Sequence[T]:
        """Return the next objects, or an empty list at the end."""
        batch: Sequence[T] = next(self._batches, ())
        if self._seen is not None:
            batch = self._without_seen(batch, self._seen)
        log = undo_log_of(self._connection)
        if log is not None:
            note_states(log, self._session.identity_map.all_states(), log.level)
        for instance in list(self._session):  # expunge_all() would end the session's life
            if instance in self._session:  # not discarded with an object that it belongs to
                self._session.expunge(instance)
        return batch

    def _without_seen(self, batch: Sequence[T], seen: set[Any]) -> Sequence[T]:
        new: list[T] = []
        while batch and not new:
            for instance in batch:
                key = instance_state(instance).key
                if key not in seen:
                    seen.add(key)
                    new.append(instance)
            if not new:
                batch = next(self._batches, ())
        return new

    def discard(self) -> None:
        """Drop a cursor whose connection is closed."""
        with suppress(SQLAlchemyError, DBConnError):
            self.close()

    def close(self, *_: Any) -> None:
        try:
            self._objects.close()
        finally:
            self._session.close()
