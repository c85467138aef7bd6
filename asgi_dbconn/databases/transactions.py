"""Transactions: what a block commits, what it rolls back, and blocks inside blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.databases.scopes import Scope
from asgi_dbconn.errors import TransactionAborted, TransactionError
from asgi_dbconn.pools.aborted import forget_aborted, raise_if_aborted
from asgi_dbconn.pools.dialects.sqlite import READONLY, WRITES

__all__ = ["Transaction", "outermost", "savepoint"]


class Transaction:
    """The handle that ``async with models.transaction() as transaction`` gives.

    Lives as long as the block. For the tasks of the block only, on its loop.
    """

    def __init__(self, scope: Scope, *, nested: bool) -> None:
        self._scope = scope
        self._nested = nested

    @property
    def connection(self) -> AsyncConnection:
        """The connection that all queries of the block share."""
        return self._scope.connection

    async def rollback(self) -> None:
        """Take back everything the block has done so far, and go on with the block afresh.

        Inside another scope that is everything since this block began.
        """
        async with self._scope.turn():
            await self._undo()
            await self._begin()

    async def _begin(self) -> None:
        connection = self.connection
        self._begun = await (connection.begin_nested() if self._nested else connection.begin())

    async def _undo(self) -> None:
        if self._begun.is_active:
            await self._begun.rollback()
        forget_aborted(self._scope.sync_connection)

    async def _commit(self) -> None:
        raise_if_aborted(self._scope.sync_connection)
        if not self._begun.is_active:
            raise TransactionAborted(
                f"The transaction of database {self._scope.name!r} was ended inside its own block, "
                "by a session or on the connection: whatever that committed or rolled back is "
                "done. Use the rollback() of the transaction itself, or leave the block."
            )
        await self._begun.commit()


@asynccontextmanager
async def outermost(
    scope: Scope, isolation_level: IsolationLevel | None, *, readonly: bool
) -> AsyncIterator[Transaction]:
    """A transaction of its own: begun, and committed when the block ends well."""
    options: dict[str, Any] = {WRITES: True, READONLY: readonly}
    if isolation_level is not None:
        options["isolation_level"] = isolation_level
    if readonly and scope.connection.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    await scope.connection.execution_options(**options)
    async with scope.entered(), _committed(Transaction(scope, nested=False)) as transaction:
        yield transaction


@asynccontextmanager
async def savepoint(
    outer: Scope, isolation_level: IsolationLevel | None, *, readonly: bool
) -> AsyncIterator[Transaction]:
    """A transaction inside a scope. Its siblings wait until it has ended: savepoints nest."""
    if isolation_level is not None or readonly:
        raise TransactionError(
            "isolation_level and readonly belong to a whole transaction, and this one is a part "
            f"(a savepoint) of the scope of database {outer.name!r} that is open already. "
            "Give them to the outermost transaction()."
        )
    async with outer.turn():
        raise_if_aborted(outer.sync_connection)
        await outer.begin()
        inner = Scope(outer.database, outer.name, outer.connection)
        async with inner.entered(), _committed(Transaction(inner, nested=True)) as transaction:
            yield transaction


@asynccontextmanager
async def _committed(transaction: Transaction) -> AsyncIterator[Transaction]:
    await transaction._begin()
    try:
        yield transaction
        await transaction._commit()
    except BaseException:
        await transaction._undo()
        raise
