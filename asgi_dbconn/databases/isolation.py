"""One connection for all, and whatever they do on it is rolled back in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_dbconn.databases.cross_loop_calls import Crossing
from asgi_dbconn.databases.isolated_target import IsolatedTarget
from asgi_dbconn.databases.loop_pools import LoopPools
from asgi_dbconn.databases.startup import prove_it_answers_now
from asgi_dbconn.errors import LoopError, PoolClosed, TransactionAborted
from asgi_dbconn.pools.dialects.isolated_profile import Undo
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.statement_lock import driver_of
from asgi_dbconn.pools.statistics import PoolStats

__all__ = ["Isolation", "Leave"]

T = TypeVar("T")
Leave = Callable[[], Awaitable[None]]


class Isolation:
    """An isolation that belongs to the loop that began it, and serves every other one.

    A pool of one connection stands in for those of the database: a task that needs a connection
    waits for its turn, and gets a PoolTimeout that names the holder if that takes too long.
    """

    def __init__(self, target: Target) -> None:
        self.crossing = Crossing(f"Database {target} is isolated", target.options.acquire_timeout)
        """The way to it from other loops."""
        self._target = IsolatedTarget.of(target)
        self._pools = LoopPools(self._target)
        self._opening: Future[LoopPool] = Future()
        self._marks: list[Undo] = []

    async def begin(self) -> None:
        """Take the connection. Raises what that raises."""
        try:
            self._opening.set_result(await self._pools.open_first(prove_it_answers_now))
        finally:
            if not self._opening.done():
                closed = PoolClosed(f"The isolation of database {self._target} could not begin.")
                self._opening.set_exception(closed)

    async def end(self) -> None:
        """Wait for work in flight as a disconnect would, and roll everything back."""
        try:
            await self._pools.drain_all()
        finally:
            self._pools.forget_all()
            self.restore_objects()

    def restore_objects(self) -> None:
        """Let the objects that were stored meanwhile be as they were before the isolation."""
        self._target.profile.undo_log.end()

    async def mark(self) -> Leave:
        """Begin a part that is rolled back before the rest; return how to leave it."""
        undo = await self._there(self._mark)
        return partial(self._there, partial(self._undo, undo))

    async def run(self, work: Callable[[Connection], T], *, autocommit: bool) -> T:
        """Do ``work`` as a pool does; from any loop."""
        pool = await self._opened()
        return await self._there(partial(pool.run, work, autocommit=autocommit))

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[LoopPool]:
        """Yield the pool for a scope. Raises LoopError on another loop."""
        self._stay_here()
        yield await self._opened()

    @property
    def engine(self) -> AsyncEngine:
        """The engine of SQLAlchemy whose one connection it is. Raises LoopError on another loop."""
        self._stay_here()
        if not self._opening.done():
            raise PoolClosed(
                f"Database {self._target} has no engine yet: its isolation is about to begin."
            )
        return self._opening.result().engine

    def stats(self) -> PoolStats:
        return self._pools.stats()

    def leave_to_parent(self) -> None:
        """Forget the connection in a child after a fork, without touching it."""
        self._pools.leave_to_parent()

    async def _opened(self) -> LoopPool:
        if self._opening.done():
            return self._opening.result()
        return await asyncio.shield(asyncio.wrap_future(self._opening))

    def _stay_here(self) -> None:
        if self.crossing.is_needed:
            raise LoopError(
                f"Database {self._target} is isolated on another event loop, and its connection "
                "cannot leave that. Queries and transaction() work here, too; for a connection, a "
                "session, a stream or the engine, begin the isolation on the loop that uses them."
            )

    async def _there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await (self.crossing.do(work) if self.crossing.is_needed else work())

    async def _mark(self) -> Undo:
        pool = await self._opened()
        async with pool.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            undo = await self._target.profile.mark(driver_of(raw.dbapi_connection))
            self._target.profile.undo_log.begin_part(undo)
            self._marks.append(undo)
        return undo

    async def _undo(self, undo: Undo) -> None:
        if undo not in self._marks:
            return  # one around it is undone already, and this along with it
        with suppress(PoolClosed, TransactionAborted):  # and so is everything
            async with self.engine.connect():
                await undo()
                self._target.profile.undo_log.roll_back_part(undo)
                del self._marks[self._marks.index(undo) :]
