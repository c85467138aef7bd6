"""Transactions and savepoints of a block, and the retry of a transaction after a conflict."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, NestedTransaction
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.databases.checkout import Checkout
from asgi_dbconn.databases.commit_callbacks import Callback
from asgi_dbconn.databases.scope_lifetime import InnerScope, OutermostScope, PoolSource
from asgi_dbconn.databases.scopes import Scope
from asgi_dbconn.errors import ConfigurationError, LoopError, TransactionClosed, TransactionError
from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.pools.aborted_transactions import clear_aborted
from asgi_dbconn.pools.driver_errors import driver_error, is_conflict
from asgi_dbconn.pools.retry import backoff

__all__ = [
    "OutermostTransaction",
    "Savepoint",
    "Transaction",
    "TransactionOptions",
    "retry_transaction",
    "scope_of",
]

T = TypeVar("T")
_log = logging.getLogger("asgi_dbconn")


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """The arguments of ``transaction()``."""

    isolation_level: IsolationLevel | None = None
    """The isolation level; None is the database's own."""
    readonly: bool = False
    force_rollback: bool = False
    """True if it is rolled back at its end in any case."""
    is_of_verb: bool = False
    """True if a single verb has opened it."""


class Transaction:
    """The handle that ``async with models.transaction() as transaction`` returns.

    Lives as long as the block. For the tasks of the block only, on its loop.
    """

    __slots__ = ("_restart", "_scope")

    def __init__(self, scope: Scope, restart: Callable[[], None]) -> None:
        self._scope = scope
        self._restart = restart

    @property
    def connection(self) -> AsyncConnection:
        """The connection that all queries of the block share.

        Raises LoopError on another loop than the connection's: an isolated database may have one.
        """
        cross_loop = self._scope.checkout.cross_loop
        if cross_loop is not None and cross_loop.is_needed:
            raise LoopError(
                f"Database {self._scope.name!r} is isolated on another event loop, and its "
                "connection cannot leave that. Query through models here, or begin the isolation "
                "on the loop that uses the connection."
            )
        return self._scope.checkout.async_connection

    async def rollback(self) -> None:
        """Roll back everything the block has done so far, and begin anew inside of it.

        Inside another scope that is everything since this block began.
        """
        cross_loop = self._scope.checkout.cross_loop
        if cross_loop is not None and cross_loop.is_needed:
            return await cross_loop.call(self.rollback)
        await self._scope.acquire()
        try:
            return await spawn(self._restart)
        finally:
            self._scope.lock.release()

    def on_commit(self, fn: Callback) -> None:
        """Call ``fn`` without arguments once all of this is committed; never if it is not.

        That is when the outermost transaction has been committed and its connection released, so
        queries of ``fn`` are committed by themselves. An awaitable result is awaited. Callbacks
        are called in order, in the task that leaves the outermost block. If one raises, the rest
        are skipped and the error leaves the block. The commit is not undone.
        """
        if not self._scope.is_open:
            raise TransactionClosed(
                f"The transaction of database {self._scope.name!r} has ended, so nothing can wait "
                "for its commit any more. Call on_commit() inside the block."
            )
        self._scope.callbacks.add(fn)


def scope_of(transaction: Transaction) -> Scope:
    """Return the scope of ``transaction``, on any loop; for our own use."""
    return transaction._scope


class OutermostTransaction(OutermostScope):
    """A whole transaction, committed when the block ends well, rolled back otherwise."""

    __slots__ = ("_options", "value")

    def __init__(self, checkout: Checkout, source: PoolSource, options: TransactionOptions) -> None:
        super().__init__(checkout, source)
        self._options = options
        self.rolls_back = options.force_rollback
        self.value = Transaction(self, partial(_restart, self, self._start))
        """The handle, for the code in the block."""

    def _begin(self) -> None:
        connection, options = self.checkout.connection, self._options
        execution = dict(self.checkout.transaction_options(readonly=options.readonly))
        if options.isolation_level is not None:
            execution["isolation_level"] = options.isolation_level
        if execution:
            connection.execution_options(**execution)
        if options.force_rollback:
            event.listen(connection, "commit", _refuse_to_commit)
        self._start()

    def _start(self) -> None:
        self.transaction = self.checkout.connection.begin()

    def _commit(self) -> None:
        if self.transaction is not None:
            self.transaction.commit()

    def _roll_back(self) -> None:
        _roll_back(self)
        self.checkout.roll_back()  # begun by hand, after ours was ended by hand


class Savepoint(InnerScope):
    """A savepoint in the outer scope's transaction. Its siblings wait: savepoints nest."""

    __slots__ = ("_savepoint", "value")

    def __init__(self, outer: Scope, options: TransactionOptions) -> None:
        if options.isolation_level is not None or options.readonly:
            raise TransactionError(
                "isolation_level and readonly belong to a whole transaction, and this one is a "
                f"part (a savepoint) of the scope of database {outer.name!r} that is open already. "
                "Give them to the outermost transaction()."
            )
        super().__init__(outer)
        self.is_waited_for = self.is_waited_for or options.is_of_verb
        self.rolls_back = options.force_rollback
        self._savepoint: NestedTransaction
        self.value = Transaction(self, partial(_restart, self, self._begin))
        """The handle, for the code in the block."""

    def _begin(self) -> None:
        self.transaction = self._savepoint = self.checkout.connection.begin_nested()

    def _commit(self) -> None:
        _end_inner_savepoints(self.checkout.connection, self._savepoint)
        self._savepoint.commit()

    def _roll_back(self) -> None:
        connection, savepoint = self.checkout.connection, self._savepoint
        _end_inner_savepoints(connection, savepoint)
        if not savepoint.is_active and not connection.invalidated:
            # SQLAlchemy believes it has ended: by a task that was refused, by hand, or by a RELEASE
            # that was interrupted. The server has to be told in any case.
            savepoint.close()
            connection.dialect.do_rollback_to_savepoint(connection, savepoint._savepoint)
        _roll_back(self)


def _roll_back(scope: Scope) -> None:
    if scope.transaction is not None and scope.transaction.is_active:
        scope.transaction.rollback()
    clear_aborted(scope.checkout.connection)
    scope.callbacks.forget()


def _end_inner_savepoints(connection: Connection, savepoint: NestedTransaction) -> None:
    # Savepoints that were begun by hand inside, and left open.
    while savepoint.is_active:
        inner = connection.get_nested_transaction()
        if inner is None or inner is savepoint:
            return
        inner.rollback()


def _restart(scope: OutermostTransaction | Savepoint, begin: Callable[[], None]) -> None:
    scope._roll_back()
    begin()


def _refuse_to_commit(_: Connection) -> None:
    raise TransactionError(
        "This transaction is always rolled back (force_rollback=True), so its connection "
        "cannot be committed by hand. Use a transaction() inside it: that is a savepoint."
    )


_FIRST_PAUSE: Final = 0.02
_MAX_PAUSE: Final = 1.0


async def retry_transaction(
    begin: Callable[[], AbstractAsyncContextManager[Transaction]],
    function: Callable[[], Awaitable[T]],
    retries: int,
) -> T:
    """Run ``function`` in a transaction of ``begin``; return its result once that is committed.

    After a conflict with another transaction it is run at most ``retries`` more times, with
    growing pauses. Any other error is raised immediately.
    """
    if type(retries) is not int or retries < 0:
        raise ConfigurationError(f"retries is a whole number of 0 or more, not {retries!r}.")
    pauses = backoff(_FIRST_PAUSE, _MAX_PAUSE)
    while True:
        committed: list[bool] = []
        try:
            async with begin() as transaction:
                # The first callback: if a later one fails, the transaction must not run again.
                transaction.on_commit(partial(committed.append, True))
                result = await function()
        except DBAPIError as error:
            if committed or retries == 0 or not is_conflict(error):
                raise
            _log.debug("a transaction is run again after %r", driver_error(error))
        else:
            return result
        retries -= 1
        # Without a connection: the transaction that won may need one to go on.
        await asyncio.sleep(next(pauses))
