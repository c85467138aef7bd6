"""The scope of a block: its statements use one connection, one after the other, until it ends.

A scope belongs to its database and to the context that opened it. Tasks started inside inherit it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, cast

from sqlalchemy.engine import Connection, Transaction
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from asgi_dbconn.databases.block_state import BlockState, Phase
from asgi_dbconn.databases.blocks import AsyncFunction, in_block
from asgi_dbconn.databases.checkout import Checkout
from asgi_dbconn.databases.commit_callbacks import CommitCallbacks
from asgi_dbconn.errors import (
    DatabaseUnavailable,
    DeadlockError,
    LoopError,
    TransactionAborted,
    TransactionClosed,
)
from asgi_dbconn.loops.deadlocks import add_blocking_veto, is_blocked, is_waiting
from asgi_dbconn.loops.fifo_lock import FifoLock
from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.pools.aborted_transactions import mark_aborted, raise_if_aborted

__all__ = ["Scope", "current_scope", "is_outside_scopes", "outside_scopes"]

P = ParamSpec("P")
T = TypeVar("T")
Task = asyncio.Task[Any]

_NO_SCOPES: Mapping[object, Scope | _HiddenScope] = MappingProxyType({})
_scopes: ContextVar[Mapping[object, Scope | _HiddenScope]] = ContextVar(
    "asgi_dbconn_scopes", default=_NO_SCOPES
)
_left: ContextVar[tuple[Mapping[object, Scope | _HiddenScope], ...]] = ContextVar(
    "asgi_dbconn_left_scopes", default=()
)
"""The scopes around each ``outside_scopes()`` block that this context is in."""


def current_scope(database: object) -> Scope | None:
    """Return the innermost open scope of ``database`` that this context is in.

    Raises TransactionClosed if that scope's block has ended: a task outlived it.
    """
    scope = _scopes.get().get(database)
    if isinstance(scope, _HiddenScope):
        return scope.innermost_open()
    if scope is None or scope.phase is Phase.OPEN:
        return scope
    task = asyncio.current_task()
    if task in scope.checkout.enders:
        return scope  # as a listener that the flush at the end of a session calls
    if scope.is_left_behind:
        return None
    raise scope.make_closed_error()


def is_outside_scopes(database: object) -> bool:
    """Return whether this context is outside of an isolated scope, by ``outside_scopes()``."""
    return isinstance(_scopes.get().get(database), _HiddenScope)


class outside_scopes:  # noqa: N801 - reads as a block: with outside_scopes(): ...
    """A block outside of all scopes: queries in it, and in tasks started there, join none.

    Each query uses a connection of its own and is committed by itself. Other context variables
    stay, the schema of ``with_schema()`` among them. A database that is isolated by
    ``models.rollback()`` stays isolated; it has one connection, so queries on it take part in the
    open scope as long as that is open, and its end waits for them. Use it as
    ``with outside_scopes():`` around an await or ``create_task()``, or as a decorator of an async
    function, a background task say. May be entered again, by any task. Raises TypeError at the
    decoration of anything else.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        scopes = _scopes.get()
        _left.set((*_left.get(), scopes))
        hidden = {database: scope.hide() for database, scope in scopes.items()}
        _scopes.set({database: scope for database, scope in hidden.items() if scope is not None})

    def __exit__(self, *exc_info: object) -> None:
        *outer, scopes = _left.get()
        _left.set(tuple(outer))
        _scopes.set(scopes)

    def __call__(self, function: AsyncFunction[P, T]) -> AsyncFunction[P, T]:
        return in_block(function, outside_scopes)


class _HiddenScope:
    """A scope as seen by tasks outside of it that have no other connection than its own."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def innermost_open(self) -> Scope | None:
        """Return the scope, or the innermost open one around it."""
        scope: BlockState | None = self._scope
        while scope is not None and not scope.is_open:
            scope = scope.outer
        return cast("Scope | None", scope)

    def hide(self) -> _HiddenScope:
        """Return itself: it is hidden already."""
        return self


class Scope(BlockState):
    """One entering of a block. Belongs to the loop of its connection."""

    __slots__ = (
        "_is_entered_from_outside",
        "callbacks",
        "checkout",
        "close_cursor",
        "is_left",
        "lock",
        "owner",
        "session",
        "transaction",
    )

    def __init__(self, checkout: Checkout, outer: Scope | None = None) -> None:
        super().__init__(outer)
        self.checkout = checkout
        self.owner = asyncio.current_task()
        self.is_left = False
        """True if its own block was left. An outer block may have ended it before that."""
        self.lock = FifoLock()
        """The lock held by a statement of the scope, or by an inner block as long as it is open."""
        self.callbacks = CommitCallbacks()
        self.close_cursor: Callable[[], object] | None = None
        """Called before the block commits, in the greenlet, if a stream is read in it."""
        self._is_entered_from_outside = False
        self.session: AsyncSession | None = None
        """The session that the scope was opened for; its transaction is that of all statements."""
        self.transaction: Transaction | None = None
        """The transaction of the block, or around it; None if the user controls it by hand."""

    @property
    def database(self) -> object:
        """The database that the connection leads to."""
        return self.checkout.database

    @property
    def name(self) -> str:
        """The name of the database, for messages."""
        return self.checkout.name

    @property
    def is_left_behind(self) -> bool:
        """True if this task entered the block, and it was left since, as in another context.

        Queries of this task do not belong to it any more. Those of the tasks that it started still
        do, and fail.
        """
        return self.is_left and self.owner is asyncio.current_task()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on the connection, in a greenlet, under the scope's lock.

        Raises TransactionAborted if an earlier statement of the transaction failed, and
        TransactionClosed if the block ends before the work is done.
        """
        cross_loop = self.checkout.cross_loop
        if cross_loop is not None and cross_loop.is_needed:
            return await cross_loop.call(partial(self.run, work))
        lock = self.lock
        await self.acquire()
        try:
            return await spawn(partial(self._run_work, work))
        except (SQLAlchemyError, DatabaseUnavailable) as error:
            if self.phase is not Phase.OPEN and asyncio.current_task() not in self.checkout.enders:
                raise self.make_closed_error() from error
            raise
        finally:
            lock.release()

    async def acquire(self) -> None:
        """Take the scope's lock for this task, which has to release it.

        Raises DeadlockError if the task has it already, TransactionClosed if the block has ended.
        """
        task, lock = asyncio.current_task(), self.lock
        if asyncio.get_running_loop() is not self.checkout.loop:
            raise self._other_loop_error()
        if lock.holder is task:
            raise DeadlockError(
                f"This task is using the connection of database {self.name!r} at this moment and "
                "asks for it again; it would wait for itself. Finish the first use before."
            )
        if self.phase is Phase.OPEN and lock.holder is None:
            lock.holder = task
            return
        self._check_is_open(task)
        await lock.acquire(task)
        try:
            self._check_is_open(task)
        except TransactionClosed:
            lock.release()
            raise

    def prepare(self) -> None:
        """Let the session of the scope begin its transaction before any statement does.

        Call it in the greenlet of the work. Raises TransactionAborted if the scope's transaction
        lost a statement.
        """
        self.raise_if_aborted()
        if self.session is not None:
            self.session.sync_session.connection()

    def raise_if_aborted(self) -> None:
        """Raise TransactionAborted if the scope's transaction cannot be committed."""
        raise_if_aborted(self.checkout.connection)
        if self.session is not None and not self.session.is_active:
            raise TransactionAborted(
                f"The session of database {self.name!r} failed to flush before, and rolled its "
                "transaction back. Call the rollback() of the session to go on with another one, "
                "or let the error leave the block."
            )
        if self.transaction is not None and not self.transaction.is_active:
            raise TransactionAborted(
                f"The transaction of database {self.name!r} was ended inside its own block, by a "
                "session or on the connection: its commit or rollback has taken effect. "
                "Call the rollback() of the transaction itself to go on, or leave the block."
            )

    def make_closed_error(self) -> TransactionClosed:
        """Return the error for a task that outlived the block."""
        return TransactionClosed(
            f"The block of database {self.name!r} that this task was started in has ended. "
            "Await the task inside the block, or start it with outside_scopes()."
        )

    def refuse(self) -> Exception | None:
        """Return the error for a statement on the connection, in any block; None if it is allowed.

        A block that ends refuses all statements but those of its own end.
        """
        task = asyncio.current_task()
        if task in self.checkout.enders:
            return None
        scope = self._scope_of_task()
        # A block that is about to open has to send its BEGIN.
        return None if scope.phase in (Phase.OPEN, Phase.NEW) else scope.make_closed_error()

    def lock_to_take(self) -> FifoLock | None:
        """Return the lock that this task has to take to commit or roll back by hand.

        None if it holds the lock, or ends a block.
        """
        task = asyncio.current_task()
        if task in self.checkout.enders:
            return None
        scope = self._scope_of_task()
        if scope.phase is not Phase.OPEN or scope.lock.holder is task:
            return None
        return scope.lock

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the current scope inside the block, which may be on another loop."""
        self.enter_context()
        try:
            yield
        finally:
            self.leave_context()

    def enter_context(self) -> None:
        """Make this the current scope of the context."""
        scopes = _scopes.get()
        self._is_entered_from_outside = isinstance(scopes.get(self.checkout.database), _HiddenScope)
        _scopes.set({**scopes, self.checkout.database: self})

    def hide(self) -> _HiddenScope | None:
        """Return the scope as ``outside_scopes()`` sees it; None if it has other connections."""
        return _HiddenScope(self) if self.checkout.is_isolated else None

    def leave_context(self) -> None:
        """Make the outer scope the current one again, in any order of leaving."""
        scopes, database = _scopes.get(), self.checkout.database
        if scopes.get(database) not in self.chain():
            return  # left in another context than it was entered in
        outer = self.outer
        while outer is not None and cast("Scope", outer).is_left_behind:
            outer = outer.outer
        others = {key: scope for key, scope in scopes.items() if key is not database}
        if outer is not None:
            scope = cast("Scope", outer)
            others[database] = _HiddenScope(scope) if self._is_entered_from_outside else scope
        _scopes.set(others)

    def _scope_of_task(self) -> Scope:
        """Return the context's scope on the connection, or this one, which is the outermost."""
        scope = _scopes.get().get(self.checkout.database)
        if isinstance(scope, _HiddenScope):
            scope = scope.innermost_open()
        return self if scope is None or scope.checkout is not self.checkout else scope

    def _run_work(self, work: Callable[[Connection], T]) -> T:
        connection = self.checkout.connection
        self.prepare()
        try:
            # A session that finds no transaction begins one, and rolls it back when it is closed.
            if not connection.in_transaction():
                connection.begin()
            return work(connection)
        except BaseException as error:
            # A session that failed to flush has rolled back already, which cleared the mark of
            # an aborted transaction.
            cause = error.orig if isinstance(error, DBAPIError) else None
            if cause is not None or not connection.in_transaction():
                mark_aborted(connection, cause or error)
            raise

    def _check_is_open(self, task: Task | None) -> None:
        if self.phase is not Phase.OPEN and task not in self.checkout.enders:
            raise self.make_closed_error()

    def _other_loop_error(self) -> LoopError:
        if is_blocked(self.checkout.loop) or is_waiting(self.checkout.loop):
            return DeadlockError(
                f"The scope of database {self.name!r} was opened on an event loop that is "
                "blocked in a run_sync, so its connection could be waited for for ever. Call that "
                "synchronous code by `await models.sync(...)`: it then runs on the same loop, "
                "connection and transaction."
            )
        return LoopError(
            f"The scope of database {self.name!r} was opened on another event loop, and its "
            "connection cannot leave it. Do the work on that loop, or outside of the scope."
        )


def _veto_blocking(loop: asyncio.AbstractEventLoop, _: object) -> str | None:
    # Code on another loop would wait for locks that this one cannot release meanwhile, or try to
    # use a connection that cannot leave it.
    for entry in _scopes.get().values():
        scope = entry.innermost_open() if isinstance(entry, _HiddenScope) else entry
        if scope is not None and scope.is_open and scope.checkout.loop is loop:
            return f"an open scope of database {scope.name!r}"
    return None


add_blocking_veto(_veto_blocking)
