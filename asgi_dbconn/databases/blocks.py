"""The blocks in which code shares one connection: how each opens, joins, commits, rolls back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.after_commit import AfterCommit
from asgi_dbconn.databases.crossing import Crossing
from asgi_dbconn.databases.held_blocks import held_open
from asgi_dbconn.databases.scope_session import ScopeSession
from asgi_dbconn.databases.scopes import Scope, current_scope
from asgi_dbconn.databases.transactions import Terms, Transaction, outermost, savepoint
from asgi_dbconn.pools.aborted import note_aborted
from asgi_dbconn.pools.loop_pool import LoopPool

__all__ = ["Blocks"]

Pool = Callable[[], AbstractAsyncContextManager[LoopPool]]


class _JoinedSession(AsyncSession):
    """Its commit flushes: the transaction is the block's. Its rollback takes all of that back."""

    async def rollback(self) -> None:
        await super().rollback()
        bind = self.bind
        if isinstance(bind, AsyncConnection) and bind.sync_connection is not None:
            note_aborted(bind.sync_connection, "a session in it was rolled back")


class Blocks:
    """Opens scopes of one database, or joins the one that is open in this context."""

    def __init__(
        self, database: object, name: str, crossing: Callable[[], Crossing | None]
    ) -> None:
        self._database = database
        self._name = name
        self._crossing = crossing

    @asynccontextmanager
    async def connection(self, pool: Pool) -> AsyncIterator[AsyncConnection]:
        outer = current_scope(self._database)
        if outer is not None:
            async with outer.joined() as scope:
                yield scope.connection
            return
        after_commit = AfterCommit()
        async with self._scope(pool, after_commit) as scope:
            after_commit.follow(scope.sync_connection)
            async with scope.entered():
                yield scope.connection
            await scope.commit()
        await after_commit.run()

    @asynccontextmanager
    async def session(self, pool: Pool) -> AsyncIterator[AsyncSession]:
        outer = current_scope(self._database)
        if outer is not None:
            async with (
                outer.joined() as scope,
                _JoinedSession(
                    scope.connection,
                    sync_session_class=ScopeSession,
                    expire_on_commit=False,
                    join_transaction_mode="rollback_only",
                ) as session,
            ):
                yield session
                if not session.is_active:
                    note_aborted(scope.sync_connection, "a session in it failed to flush")
                scope.raise_if_aborted()
                await session.commit()
            return
        after_commit = AfterCommit()
        async with self._scope(pool, after_commit) as scope:
            after_commit.follow(scope.sync_connection)
            async with (
                scope.entered(),
                AsyncSession(
                    scope.connection,
                    sync_session_class=ScopeSession,
                    expire_on_commit=False,
                    join_transaction_mode="control_fully",
                ) as session,
            ):
                scope.session = session
                yield session
                scope.raise_if_aborted()
                await session.commit()
            # Queries of the block may have begun a transaction that the session never saw.
            await scope.commit()
        await after_commit.run()

    @asynccontextmanager
    async def transaction(self, pool: Pool, terms: Terms) -> AsyncIterator[Transaction]:
        outer = current_scope(self._database)
        after_commit = AfterCommit()
        if outer is None:
            crossing, block = self._crossing(), partial(self._outermost, pool, terms, after_commit)
        else:
            crossing, block = outer.crossing, partial(savepoint, outer, terms)
        if crossing is not None and crossing.is_needed:
            opened = held_open(crossing, block)
        else:
            opened = block()
        async with opened as transaction:
            yield transaction
        await after_commit.run()

    @asynccontextmanager
    async def _outermost(
        self, pool: Pool, terms: Terms, after_commit: AfterCommit
    ) -> AsyncIterator[Transaction]:
        async with (
            self._scope(pool, after_commit) as scope,
            outermost(scope, terms) as transaction,
        ):
            yield transaction

    @asynccontextmanager
    async def _scope(self, pool: Pool, after_commit: AfterCommit) -> AsyncIterator[Scope]:
        async with pool() as opened, opened.engine.connect() as connection:
            try:
                yield Scope(self._database, self._name, connection, after_commit, self._crossing())
            finally:
                await _let_go_of_a_failed_commit(connection)


async def _let_go_of_a_failed_commit(connection: AsyncConnection) -> None:
    # SQLAlchemy hands a connection whose commit failed back as it is, and some databases keep its
    # transaction open. Without this transaction object, the pool resets the connection.
    transaction = None if connection.closed else connection.get_transaction()
    if transaction is not None and not transaction.is_active:
        await connection.rollback()
