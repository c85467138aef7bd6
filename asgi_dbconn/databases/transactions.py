"""Transactions: what a block commits, what it rolls back, and blocks inside blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.databases.after_commit import Callback
from asgi_dbconn.databases.scopes import Scope
from asgi_dbconn.errors import LoopError, TransactionClosed, TransactionError
from asgi_dbconn.pools.aborted import forget_aborted
from asgi_dbconn.pools.dialects.sqlite import READONLY, WRITES

__all__ = ["Terms", "Transaction", "outermost", "savepoint", "scope_of"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is special about a transaction."""

    isolation_level: IsolationLevel | None = None
    """None is the database's own."""
    readonly: bool = False
    force_rollback: bool = False
    """Whether it is rolled back at its end, whatever happens."""


class Transaction:
    """The handle that ``async with models.transaction() as transaction`` gives.

    Lives as long as the block. For the tasks of the block only, on its loop.
    """

    def __init__(self, scope: Scope, *, nested: bool) -> None:
        self._scope = scope
        self._nested = nested

    @property
    def connection(self) -> AsyncConnection:
        """The connection that all queries of the block share.

        Raises LoopError on another loop than the connection's: an isolated database may have one.
        """
        crossing = self._scope.crossing
        if crossing is not None and crossing.is_needed:
            raise LoopError(
                f"Database {self._scope.name!r} is isolated on another event loop, and its "
                "connection cannot leave that. Query through models here, or begin the isolation "
                "on the loop that uses the connection."
            )
        return self._scope.connection

    async def rollback(self) -> None:
        """Take back everything the block has done so far, and go on with the block afresh.

        Inside another scope that is everything since this block began.
        """
        crossing = self._scope.crossing
        if crossing is not None and crossing.is_needed:
            return await crossing.do(self.rollback)
        async with self._scope.turn():
            await self._undo()
            return await self._begin()

    def on_commit(self, fn: Callback) -> None:
        """Call ``fn`` without arguments once all of this is committed; never if it is not.

        That is when the outermost transaction has been committed and its connection given back,
        so its own queries are committed by themselves. What it returns is awaited if it can be.
        Callbacks are called in order, in the task that leaves the outermost block; the
        first that raises ends that, and its error leaves the block: the commit stands.
        """
        if not self._scope.is_open:
            raise TransactionClosed(
                f"The transaction of database {self._scope.name!r} has ended, so nothing can wait "
                "for its commit any more. Call on_commit() inside the block."
            )
        self._scope.after_commit.add(fn)

    async def _begin(self) -> None:
        connection = self._scope.connection
        begun = connection.begin_nested() if self._nested else connection.begin()
        self._scope.begun = await begun

    async def _undo(self) -> None:
        begun, connection = self._scope.begun, self._scope.connection
        if begun is not None and begun.is_active:
            await begun.rollback()
        elif not self._nested and connection.in_transaction():
            await connection.rollback()  # begun by hand, after ours was ended by hand
        forget_aborted(self._scope.sync_connection)
        self._scope.after_commit.forget()

    async def _commit(self) -> None:
        self._scope.raise_if_aborted()
        if self._scope.begun is not None:
            await self._scope.begun.commit()


def scope_of(transaction: Transaction) -> Scope:
    """For our own use, on whatever loop."""
    return transaction._scope


@asynccontextmanager
async def outermost(scope: Scope, terms: Terms) -> AsyncIterator[Transaction]:
    """A transaction of its own: begun, and committed when the block ends well, or not at all."""
    options: dict[str, Any] = {WRITES: True, READONLY: terms.readonly}
    if terms.isolation_level is not None:
        options["isolation_level"] = terms.isolation_level
    if terms.readonly and scope.connection.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    await scope.connection.execution_options(**options)
    if terms.force_rollback:
        event.listen(scope.sync_connection, "commit", _refuse_to_commit)
    transaction = Transaction(scope, nested=False)
    async with scope.entered(), _ended(transaction, keep=not terms.force_rollback):
        yield transaction


@asynccontextmanager
async def savepoint(outer: Scope, terms: Terms) -> AsyncIterator[Transaction]:
    """A transaction inside a scope. Its siblings wait until it has ended: savepoints nest."""
    if terms.isolation_level is not None or terms.readonly:
        raise TransactionError(
            "isolation_level and readonly belong to a whole transaction, and this one is a part "
            f"(a savepoint) of the scope of database {outer.name!r} that is open already. "
            "Give them to the outermost transaction()."
        )
    async with outer.turn():
        await outer.begin()
        inner = outer.inside()
        transaction = Transaction(inner, nested=True)
        async with inner.entered(), _ended(transaction, keep=not terms.force_rollback):
            yield transaction
        outer.after_commit.take_over(inner.after_commit)


@asynccontextmanager
async def _ended(transaction: Transaction, *, keep: bool) -> AsyncIterator[None]:
    await transaction._begin()
    try:
        yield
        await (transaction._commit() if keep else transaction._undo())
    except BaseException:
        await transaction._undo()
        raise


def _refuse_to_commit(_: Connection) -> None:
    raise TransactionError(
        "This transaction is rolled back whatever happens (force_rollback=True), so its connection "
        "cannot be committed by hand. Use a transaction() inside it: that is a savepoint."
    )
