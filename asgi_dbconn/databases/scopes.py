"""A stretch of code that shares one connection: ``connection()``, ``session()``, ``transaction()``.

A scope belongs to its database and to the context that opened it; tasks started inside inherit
it. Whatever they do takes turns on the one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, AsyncTransaction

from asgi_dbconn.databases.after_commit import AfterCommit
from asgi_dbconn.databases.crossing import Crossing
from asgi_dbconn.errors import DeadlockError, LoopError, TransactionAborted, TransactionClosed
from asgi_dbconn.loops.calls import is_blocked, stands_still
from asgi_dbconn.loops.deadlocks import object_to_blocking
from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.pools.aborted import note_aborted, raise_if_aborted

__all__ = ["Scope", "current_scope"]

T = TypeVar("T")

_NONE: Mapping[object, Scope] = MappingProxyType({})
_scopes: ContextVar[Mapping[object, Scope]] = ContextVar("asgi_dbconn_scopes", default=_NONE)


def current_scope(database: object) -> Scope | None:
    """The innermost open scope of ``database`` that this context is in.

    Raises TransactionClosed if that scope's block has ended: a task outlived it.
    """
    scope = _scopes.get().get(database)
    if scope is not None and not scope.is_open:
        if scope.owner is asyncio.current_task():
            return None  # left behind by a block that was ended in another context
        raise TransactionClosed(
            f"The scope of database {scope.name!r} that this task was started in has ended. "
            "Await the task inside the block, or start it outside."
        )
    return scope


class Scope:
    """One connection, in use by one context and its children, until the block ends."""

    def __init__(
        self,
        database: object,
        name: str,
        connection: AsyncConnection,
        after_commit: AfterCommit,
        crossing: Crossing | None = None,
    ) -> None:
        self.database = database
        self.name = name
        self.connection = connection
        self.after_commit = after_commit
        self.crossing = crossing
        """The way to it from other loops, if there is any."""
        self.session: AsyncSession | None = None
        """The session that the scope was opened for; its transaction is everybody's."""
        self.begun: AsyncTransaction | None = None
        """The transaction that the block is, or is a part of; None where its user controls it."""
        self.owner = asyncio.current_task()
        self.is_open = False
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._turn_taker: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[Scope]:
        """Open for the time of the block, and the current scope inside."""
        with self.current():
            self.is_open = True
            try:
                yield self
            finally:
                self.is_open = False

    @contextmanager
    def current(self) -> Iterator[None]:
        """Be the current scope inside the block, which may be on another loop."""
        token = _scopes.set({**_scopes.get(), self.database: self})
        try:
            yield
        finally:
            with suppress(ValueError):  # left in another context than it was entered in
                _scopes.reset(token)

    def inside(self) -> Scope:
        """A scope for a part of this one, on the same connection; to be entered in turn."""
        inner = Scope(self.database, self.name, self.connection, AfterCommit(), self.crossing)
        inner.begun = self.begun
        return inner

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[Scope]:
        """A block inside the scope, on the same connection; siblings wait until it has ended.

        What such a block leaves half done must not be committed by those who catch its error.
        """
        async with self.turn():
            await self.begin()
            inner = self.inside()
            async with inner.entered():
                try:
                    yield inner
                except BaseException as error:
                    note_aborted(self.sync_connection, error)
                    raise
            self.after_commit.take_over(inner.after_commit)

    async def begin(self) -> None:
        """Let the session of the scope begin its transaction before anybody else does.

        Raises TransactionAborted if the scope's transaction lost a part of itself.
        """
        self.raise_if_aborted()
        if self.session is not None:
            await self.session.connection()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do ``work`` on the connection, inside SQLAlchemy's greenlet, when it is our turn.

        Raises TransactionAborted if an earlier statement of the transaction failed.
        """
        if self.crossing is not None and self.crossing.is_needed:
            return await self.crossing.do(partial(self.run, work))
        async with self.turn():
            connection = self.sync_connection
            await self.begin()
            try:
                return await spawn(partial(_within_transaction, connection, work))
            except BaseException as error:
                # A session that failed to flush has rolled back already, and with it the note
                # that the transaction lost a statement.
                cause = error.orig if isinstance(error, DBAPIError) else None
                if cause is not None or not connection.in_transaction():
                    note_aborted(connection, cause or error)
                raise

    def raise_if_aborted(self) -> None:
        """Raise TransactionAborted if nothing of the scope's transaction can be committed."""
        raise_if_aborted(self.sync_connection)
        if self.session is not None and not self.session.is_active:
            raise TransactionAborted(
                f"The session of database {self.name!r} failed to flush before, and rolled its "
                "transaction back. Call the rollback() of the session to go on with another one, "
                "or let the error leave the block."
            )
        if self.begun is not None and not self.begun.is_active:
            raise TransactionAborted(
                f"The transaction of database {self.name!r} was ended inside its own block, by a "
                "session or on the connection: whatever that committed or rolled back is done. "
                "Call the rollback() of the transaction itself to go on, or leave the block."
            )

    async def commit(self) -> None:
        """Commit what the scope has left open. Raises TransactionAborted if that is impossible."""
        self.raise_if_aborted()
        if self.connection.in_transaction():
            await self.connection.commit()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the connection alone; siblings of ``gather`` wait for it in order."""
        if asyncio.get_running_loop() is not self._loop:
            raise self._elsewhere()
        task = asyncio.current_task()
        if task is self._turn_taker:
            raise DeadlockError(
                f"This task is using the connection of database {self.name!r} at this moment and "
                "asks for it again; it would wait for itself. Finish the first use before."
            )
        async with self._turn:
            if not self.is_open:
                raise TransactionClosed(
                    f"The scope of database {self.name!r} ended while this task waited for its "
                    "turn. Await the task inside the block."
                )
            self._turn_taker = task
            try:
                yield
            finally:
                self._turn_taker = None

    def _elsewhere(self) -> LoopError:
        if is_blocked(self._loop) or stands_still(self._loop):
            return DeadlockError(
                f"The scope of database {self.name!r} was opened on an event loop that stands "
                "still in a run_sync, so its connection could be waited for for ever. Call that "
                "synchronous code by `await models.sync(...)`: it then runs on the same loop, "
                "connection and transaction."
            )
        return LoopError(
            f"The scope of database {self.name!r} was opened on another event loop, and its "
            "connection cannot leave it. Do the work on that loop, or outside of the scope."
        )

    @property
    def sync_connection(self) -> Connection:
        connection = self.connection.sync_connection
        if connection is None:
            raise TransactionClosed(
                f"The connection of database {self.name!r} was closed inside its own scope."
            )
        return connection


def _held_on(loop: asyncio.AbstractEventLoop, _: object) -> str | None:
    # What runs elsewhere meanwhile would wait for locks that this loop cannot give up, or try to
    # use a connection that cannot leave it.
    for scope in _scopes.get().values():
        if scope.is_open and scope._loop is loop:
            return f"an open scope of database {scope.name!r}"
    return None


object_to_blocking(_held_on)


def _within_transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    # A session that finds no transaction begins one and takes it back when it is closed.
    if not connection.in_transaction():
        connection.begin()
    return work(connection)
