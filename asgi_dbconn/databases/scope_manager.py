"""Open ``connection()``, ``session()``, ``transaction()``, or join the open scope of a context."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn.databases.blocks import Block, Entry
from asgi_dbconn.databases.checkout import Checkout
from asgi_dbconn.databases.commit_as_you_go import (
    JoinedConnection,
    JoinedSession,
    OutermostConnection,
    OutermostSession,
)
from asgi_dbconn.databases.cross_loop_calls import CrossLoopCaller
from asgi_dbconn.databases.cross_loop_transaction import CrossLoopTransaction
from asgi_dbconn.databases.scope_lifetime import PoolSource
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.transactions import (
    OutermostTransaction,
    Savepoint,
    Transaction,
    TransactionOptions,
)

__all__ = ["ScopeManager"]


class ScopeManager:
    """The blocks of one database; for any task, thread and loop."""

    def __init__(
        self, database: object, name: str, cross_loop: Callable[[], CrossLoopCaller | None]
    ) -> None:
        self._database = database
        self._name = name
        self._cross_loop = cross_loop

    def connection(self, source: PoolSource) -> Block[AsyncConnection]:
        return Block(partial(self._enter_connection, source))

    def session(self, source: PoolSource) -> Block[AsyncSession]:
        return Block(partial(self._enter_session, source))

    def transaction(self, source: PoolSource, options: TransactionOptions) -> Block[Transaction]:
        return Block(partial(self._enter_transaction, source, options))

    def _enter_connection(self, source: PoolSource) -> Entry[AsyncConnection]:
        outer = current_scope(self._database)
        if outer is not None:
            return JoinedConnection(outer)
        return OutermostConnection(self._checkout(), source)

    def _enter_session(self, source: PoolSource) -> Entry[AsyncSession]:
        outer = current_scope(self._database)
        if outer is not None:
            return JoinedSession(outer)
        return OutermostSession(self._checkout(), source)

    def _enter_transaction(
        self, source: PoolSource, options: TransactionOptions
    ) -> Entry[Transaction]:
        outer = current_scope(self._database)
        cross_loop = self._cross_loop() if outer is None else outer.checkout.cross_loop
        if cross_loop is not None and cross_loop.is_needed:
            return CrossLoopTransaction(
                cross_loop, partial(self._enter_transaction, source, options)
            )
        if outer is not None:
            return Savepoint(outer, options)
        return OutermostTransaction(self._checkout(), source, options)

    def _checkout(self) -> Checkout:
        return Checkout(self._database, self._name, self._cross_loop())
