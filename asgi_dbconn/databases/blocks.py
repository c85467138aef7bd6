"""The blocks in which code shares one connection: how each opens, joins, commits, rolls back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.scopes import Scope, current_scope
from asgi_dbconn.databases.transactions import Transaction, outermost, savepoint
from asgi_dbconn.pools.aborted import note_aborted, raise_if_aborted
from asgi_dbconn.pools.loop_pool import LoopPool

__all__ = ["Blocks"]


class _JoinedSession(AsyncSession):
    """Its commit flushes: the transaction is the block's. Its rollback takes all of that back."""

    async def rollback(self) -> None:
        await super().rollback()
        bind = self.bind
        if isinstance(bind, AsyncConnection) and bind.sync_connection is not None:
            note_aborted(bind.sync_connection, "a session in it was rolled back")


class Blocks:
    """Opens scopes of one database, or joins the one that is open in this context."""

    def __init__(self, database: object, name: str) -> None:
        self._database = database
        self._name = name

    @asynccontextmanager
    async def connection(
        self, pool: Callable[[], AbstractAsyncContextManager[LoopPool]]
    ) -> AsyncIterator[AsyncConnection]:
        outer = current_scope(self._database)
        if outer is not None:
            async with outer.joined() as scope:
                yield scope.connection
            return
        async with self._scope(pool) as scope:
            async with scope.entered():
                yield scope.connection
            await scope.commit()

    @asynccontextmanager
    async def session(
        self, pool: Callable[[], AbstractAsyncContextManager[LoopPool]]
    ) -> AsyncIterator[AsyncSession]:
        outer = current_scope(self._database)
        if outer is not None:
            async with (
                outer.joined() as scope,
                _JoinedSession(
                    scope.connection, expire_on_commit=False, join_transaction_mode="rollback_only"
                ) as session,
            ):
                yield session
                await session.commit()
            return
        async with self._scope(pool) as scope:
            async with (
                scope.entered(),
                AsyncSession(
                    scope.connection, expire_on_commit=False, join_transaction_mode="control_fully"
                ) as session,
            ):
                scope.session = session
                yield session
                raise_if_aborted(scope.sync_connection)
                await session.commit()
            # Queries of the block may have begun a transaction that the session never saw.
            await scope.commit()

    @asynccontextmanager
    async def transaction(
        self,
        pool: Callable[[], AbstractAsyncContextManager[LoopPool]],
        isolation_level: IsolationLevel | None,
        *,
        readonly: bool,
    ) -> AsyncIterator[Transaction]:
        outer = current_scope(self._database)
        if outer is not None:
            async with savepoint(outer, isolation_level, readonly=readonly) as transaction:
                yield transaction
            return
        async with (
            self._scope(pool) as scope,
            outermost(scope, isolation_level, readonly=readonly) as transaction,
        ):
            yield transaction

    @asynccontextmanager
    async def _scope(
        self, pool: Callable[[], AbstractAsyncContextManager[LoopPool]]
    ) -> AsyncIterator[Scope]:
        async with pool() as opened, opened.engine.connect() as connection:
            yield Scope(self._database, self._name, connection)
