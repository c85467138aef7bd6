"""The Connection of our engines: BEGIN before a user gets the driver's connection, and locks.

SQLAlchemy begins a transaction with the first statement. A command of the driver's own, as a COPY,
would come before that, and would not be rolled back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection, Engine, NestedTransaction, RootTransaction
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from asgi_dbconn.errors import DatabaseUnavailable, TransactionAborted, TransactionClosed
from asgi_dbconn.loops.fifo_lock import FifoLock
from asgi_dbconn.pools.driver_errors import note_cleanup_failure
from asgi_dbconn.pools.statement_lock import lock_of

__all__ = ["PooledConnection", "acquire_connection", "install"]


class PooledConnection(Connection):
    """A connection of an engine of ours, for a block or for a single query."""

    lost_transaction: str | None = None
    """The reason why the transaction is lost, if the connection was lost with it."""
    refusal: Callable[[], Exception | None] | None = None
    """A function that returns the error for using it when it is closed, and its block has ended."""
    lock: Callable[[], FifoLock | None] | None = None
    """A function that returns the lock that this task needs to end the transaction by hand."""
    after_commit: Callable[[], object] | None = None
    """A function to call when the server has committed a transaction, by hand or not."""
    after_rollback: Callable[[], object] | None = None
    """A function to call when a transaction was rolled back."""
    _is_finishing = False
    """True if SQLAlchemy itself asks for the pooled connection, to commit or to roll back."""
    _beginner: asyncio.Task[Any] | None = None
    """The task whose BEGIN is under way. Meanwhile SQLAlchemy believes others are inside of it."""
    _begun: asyncio.Event | None = None
    """The event set when it has ended, if another task waits for that."""

    @property
    def connection(self) -> PoolProxiedConnection:
        """The pooled connection, in the transaction that SQLAlchemy believes it to be in."""
        pooled = super().connection
        if self._transaction is not None and not self._is_finishing:
            ensure_begun = getattr(pooled.dbapi_connection, "ensure_begun", None)
            if ensure_begun is not None:
                try:
                    ensure_begun()
                except BaseException as error:  # as that of a statement
                    self._handle_dbapi_exception(error, None, None, None, None)
        return pooled

    @property
    def info(self) -> dict[Any, Any]:
        """A dictionary that stays with the driver's connection. Sends nothing."""
        pooled = self._dbapi_connection
        return super().connection.info if pooled is None else pooled.info

    def reserve(
        self, refusal: Callable[[], Exception | None], lock: Callable[[], FifoLock | None]
    ) -> None:
        """Let a block have the connection.

        ``refusal`` is called for each statement, and ``lock`` before a commit or rollback by hand:
        that must not come between two statements of another task's verb.
        """
        self.refusal, self.lock = refusal, lock
        lock_of(super().connection.dbapi_connection).reserve(refusal)

    def _revalidate_connection(self) -> PoolProxiedConnection:
        if self.refusal is None:
            return super()._revalidate_connection()
        error = self.refusal()  # also where the block would get another connection
        if error is not None:
            raise error
        pooled = super()._revalidate_connection()
        lock_of(pooled.dbapi_connection).reserve(self.refusal)
        return pooled

    def in_transaction(self) -> bool:
        # The caller begins one if there is none.
        if self._beginner is not None and in_greenlet():
            self._wait_for_begin()
        return self._transaction is not None and self._transaction.is_active

    def begin(self) -> RootTransaction:
        if self._beginner is not None:
            self._wait_for_begin()
        return super().begin()

    def begin_nested(self) -> NestedTransaction:
        if self._beginner is not None:
            self._wait_for_begin()
        return super().begin_nested()

    def _autobegin(self) -> None:
        if self._beginner is not None:
            self._wait_for_begin()
        if self._transaction is None:
            super()._autobegin()

    def _begin_impl(self, transaction: RootTransaction) -> None:
        self._beginner = asyncio.current_task()
        try:
            super()._begin_impl(transaction)
        finally:
            self._beginner = None
            if self._begun is not None:
                self._begun.set()
                self._begun = None

    def _wait_for_begin(self) -> None:
        while self._beginner is not None and self._beginner is not asyncio.current_task():
            if self._begun is None:
                self._begun = asyncio.Event()
            await_only(self._begun.wait())

    def _commit_impl(self) -> None:
        lock = self._acquire_lock()
        self._is_finishing = True
        try:
            super()._commit_impl()
            if self.after_commit is not None:
                self.after_commit()
        except BaseException as error:
            if _has_no_answer(error):
                _note_unknown_commit(self.engine.pool, error)
            raise
        finally:
            self._is_finishing = False
            if lock is not None:
                lock.release()

    def _rollback_impl(self) -> None:
        if self._is_refused():
            return  # the end of the block does that
        try:
            lock = self._acquire_lock()
        except TransactionClosed:
            return  # the block began to end meanwhile
        self.lost_transaction = None
        self._is_finishing = True
        reason = sys.exc_info()[1]
        try:
            super()._rollback_impl()
        except Exception as failure:
            self._pass_over(failure, reason)
        finally:
            if self.after_rollback is not None:
                self.after_rollback()
            self._is_finishing = False
            if lock is not None:
                lock.release()

    def _acquire_lock(self) -> FifoLock | None:
        """Take the lock that an end by hand needs, if any. Raises TransactionClosed."""
        lock = None if self.lock is None else self.lock()
        if lock is not None:
            await_only(lock.acquire(asyncio.current_task()))
        return lock

    def _rollback_to_savepoint_impl(self, name: str) -> None:
        if self._is_refused():
            return
        reason = sys.exc_info()[1]
        try:
            super()._rollback_to_savepoint_impl(name)
        except Exception as failure:
            self._pass_over(failure, reason)

    def _pass_over(self, failure: Exception, reason: BaseException | None) -> None:
        """Invalidate the connection because a rollback failed; raise that if it has no ``reason``.

        The reason is the error that made the rollback necessary, and leaves the work.
        """
        if isinstance(failure, TransactionClosed) and self._is_refused():
            return  # the block began to end while this waited; its end does that
        if reason is None:
            raise failure
        if not isinstance(failure, TransactionAborted):  # then the database has done it already
            self.invalidate(failure)
        pool: Any = self.engine.pool
        note_cleanup_failure(pool.gate.name, failure, reason)

    def _is_refused(self) -> bool:
        """Return whether the task has outlived the block whose connection this is."""
        return self.refusal is not None and self.refusal() is not None


class _EngineListeners:
    """The listeners of engine and connection, joined at the first use."""

    def __get__(self, connection: Any, cls: type[Any]) -> Any:
        if connection is None:
            return PooledConnection.dispatch
        own: Any = PooledConnection.dispatch
        joined = own._for_instance(connection)._join(connection.engine.dispatch)
        # From here on found without this descriptor.
        connection.__dict__["dispatch"] = joined
        return joined


class _LazyListenersConnection(PooledConnection):
    """A connection of a block, or of a single verb, that joins its listeners at their first use.

    SQLAlchemy would join them first, which takes half as long as the acquire.
    """

    dispatch: Any = _EngineListeners()


def acquire_connection(engine: Engine) -> PooledConnection:
    """Acquire a connection from the pool of ``engine``, for a block or a single verb.

    SQLAlchemy's constructor does it: it calls :meth:`GatedPool.connect`. Call it in a greenlet of
    ``loops/greenlets.py``, which waits meanwhile.
    """
    return _LazyListenersConnection(engine, _has_events=False)


class _PooledOptionEngine(OptionEngine):
    _connection_cls = PooledConnection


_PooledOptionEngine._option_cls = _PooledOptionEngine


def install(engine: Engine) -> None:
    """Let ``engine``, and its views with other options, make such connections.

    The adapted connection below notices when a user gets the driver's own.
    """
    engine._connection_cls = PooledConnection
    engine._option_cls = _PooledOptionEngine
    setattr(engine.dialect, _get_driver_connection.__name__[1:], _get_driver_connection)


def _get_driver_connection(connection: Any) -> Any:
    # Pooled connections and their records call this, so that no access goes unnoticed.
    return connection.driver_connection


def _has_no_answer(error: BaseException) -> bool:
    """Return whether a COMMIT that raised ``error`` may have taken effect all the same."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, DatabaseUnavailable | OSError) or not isinstance(error, Exception)


def _note_unknown_commit(pool: Any, error: BaseException) -> None:
    pool.gate.events.note_unknown_commit()
    error.add_note(
        f"The COMMIT of database {pool.gate.name!r} was under way, and its outcome is unknown: the "
        "transaction may have taken effect, or not."
    )
