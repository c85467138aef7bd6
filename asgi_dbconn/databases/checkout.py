"""The connection of an outermost block, from its acquire to its release or discard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn.databases.cross_loop_calls import CrossLoopCaller
from asgi_dbconn.errors import TransactionClosed
from asgi_dbconn.loops.fifo_lock import FifoLock
from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.pooled_connection import PooledConnection, acquire_connection
from asgi_dbconn.pools.statement_lock import CANCEL_LIMIT, StatementLock, lock_of

__all__ = ["Checkout"]


class Checkout:
    """A connection shared by the outermost block and all blocks inside it, on its pool's loop.

    Methods without ``async`` run inside SQLAlchemy's greenlet.
    """

    __slots__ = (
        "_async_connection",
        "_connection",
        "_pool",
        "_refusal",
        "cross_loop",
        "database",
        "enders",
        "loop",
        "name",
    )

    def __init__(self, database: object, name: str, cross_loop: CrossLoopCaller | None) -> None:
        self.database = database
        self.name = name
        self.cross_loop = cross_loop
        """The caller for other loops, if the connection can be used from there."""
        self.loop = asyncio.get_running_loop()
        self.enders: set[asyncio.Task[Any] | None] = set()
        """The tasks that end a block at this moment; their statements are not refused."""
        self._async_connection: AsyncConnection | None = None
        self._connection: PooledConnection
        self._pool: LoopPool
        self._refusal: Callable[[], Exception | None]

    def acquire(
        self,
        pool: LoopPool,
        refusal: Callable[[], Exception | None],
        lock: Callable[[], FifoLock | None],
    ) -> None:
        """Acquire a connection of ``pool``; see ``PooledConnection.reserve``."""
        connection = acquire_connection(pool.engine.sync_engine)
        self._pool, self._connection, self._refusal = pool, connection, refusal
        connection.reserve(refusal, lock)

    def transaction_options(self, *, readonly: bool) -> Mapping[str, Any]:
        """Return the execution options with which the dialect begins a transaction."""
        return self._pool.config.profile.transaction_options(readonly=readonly)

    def roll_back(self) -> None:
        """Roll back the whole transaction, if there is one."""
        connection = self._connection
        # Also after a COMMIT that failed: SQLAlchemy keeps its transaction, though inactive, and
        # some databases keep theirs.
        if not connection.closed and connection.get_transaction() is not None:
            connection.rollback()

    def release(self) -> None:
        """Release the connection, and roll back what is left of its transaction."""
        lock = self._lock
        if lock is not None:
            lock.unreserve()
        self._connection.close()

    @property
    def connection(self) -> PooledConnection:
        """The synchronous connection.

        Raises TransactionClosed if it was closed inside its own block.
        """
        connection = self._connection
        if connection.closed:
            raise self._refusal() or TransactionClosed(
                f"The connection of database {self.name!r} was closed inside its own block."
            )
        return connection

    @property
    def async_connection(self) -> AsyncConnection:
        """The asynchronous connection; one object for all blocks."""
        if self._async_connection is None:
            self._async_connection = AsyncConnection(self._pool.engine, self._connection)
        return self._async_connection

    @property
    def is_isolated(self) -> bool:
        """True if it is the one connection of an isolated database."""
        return self.cross_loop is not None

    def add_ender(self, task: asyncio.Task[Any]) -> None:
        """Let ``task`` end a block; its statements are not refused until it is done."""
        self.enders.add(task)
        task.add_done_callback(self.enders.discard)

    @property
    def is_in_use(self) -> bool:
        """True if a statement is under way on it."""
        lock = self._lock
        return lock is not None and lock.holder is not None

    async def stop(self) -> None:
        """Stop the statement under way, which is another task's, on the server.

        Raises TimeoutError if the server does not answer.
        """
        pooled = self._find_pooled()
        if pooled is None or not self.is_in_use:
            return
        stopped = await self._pool.config.profile.stop(pooled.dbapi_connection, CANCEL_LIMIT)
        if not stopped:
            raise TimeoutError

    async def discard(self) -> None:
        """Discard the connection, without waiting for anything. Its blocks are aborted."""
        pooled = self._find_pooled()
        if pooled is None:
            return
        lock_of(pooled.dbapi_connection).is_lost = True
        self._pool.discard(pooled.dbapi_connection)
        await spawn(self._connection.invalidate)

    def hurry(self) -> None:
        """From now on discard the connection with an interrupted statement, without waiting."""
        lock = self._lock
        if lock is not None:
            lock.cancel_limit = 0.0

    def calm(self) -> None:
        """Undo :meth:`hurry`; an inner block has ended, and the connection is usable."""
        lock = self._lock
        if lock is not None:
            lock.cancel_limit = CANCEL_LIMIT

    @property
    def _lock(self) -> StatementLock | None:
        # Not kept: a connection that was lost may be followed by another.
        pooled = self._find_pooled()
        return None if pooled is None else lock_of(pooled.dbapi_connection)

    def _find_pooled(self) -> Any:
        return getattr(self._connection, "_dbapi_connection", None)
