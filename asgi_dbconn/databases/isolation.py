"""Test isolation: one connection for all tasks, rolled back at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_dbconn.databases.cross_loop_calls import CrossLoopCaller
from asgi_dbconn.databases.cross_task_context_manager import SplitContext
from asgi_dbconn.databases.loop_pools import LoopPools
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.startup import verify_once
from asgi_dbconn.errors import LoopError, PoolClosed, TransactionAborted, TransactionError
from asgi_dbconn.loops.fork import keep_forever
from asgi_dbconn.loops.loop_lifetime import YEARS, ShutdownHook
from asgi_dbconn.pools.budget import Budget
from asgi_dbconn.pools.dialects.drivers import make_isolation_profile
from asgi_dbconn.pools.dialects.isolation_profiles import IsolatedProfile, Undo
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statement_lock import driver_of
from asgi_dbconn.pools.statistics import PoolStats

__all__ = ["IsolatedConfig", "Isolation", "IsolationManager", "Leave"]

T = TypeVar("T")


@dataclass(frozen=True)
class IsolatedConfig(PoolConfig):
    """The configuration of the one pool of an isolation."""

    origin: PoolConfig | None = None

    @classmethod
    def of(cls, origin: PoolConfig) -> IsolatedConfig:
        # The connection must not be replaced for its age: everything would be lost.
        options = replace(origin.options, pool_size=1, max_lifetime=YEARS, optional=False)
        name = f"{origin.name} (isolated)"  # in messages about a queue for a single connection
        return cls(name, origin.url, origin.address, options, origin.observers, origin)

    @cached_property
    def budget(self) -> Budget:
        return Budget(None) if self.origin is None else self.origin.budget

    @cached_property
    def profile(self) -> IsolatedProfile:
        return make_isolation_profile(self.url)


Leave = Callable[[], Awaitable[None]]


class Isolation:
    """An isolation that belongs to the loop that began it, and serves every other one.

    A pool of one connection replaces those of the database: a task that needs a connection waits
    for it, and gets a PoolTimeout that names the holder if that takes too long.
    """

    def __init__(self, config: PoolConfig) -> None:
        self.cross_loop = CrossLoopCaller(
            f"Database {config} is isolated", config.options.acquire_timeout
        )
        """The caller for tasks on other loops."""
        self._config = IsolatedConfig.of(config)
        self._pools = LoopPools(self._config)
        self._opening: Future[LoopPool] = Future()
        self._savepoints: list[Undo] = []

    async def begin(self) -> None:
        """Open the connection. Raises what that raises."""
        try:
            self._opening.set_result(await self._pools.open_first(verify_once))
        finally:
            if not self._opening.done():
                closed = PoolClosed(f"The isolation of database {self._config} could not begin.")
                self._opening.set_exception(closed)

    async def end(self) -> None:
        """Drain the pool as a disconnect would, and roll everything back."""
        try:
            await self._pools.drain_all()
        finally:
            self._pools.abort_remaining()
            self.restore_objects()

    def restore_objects(self) -> None:
        """Restore the objects that were stored meanwhile to their state before the isolation."""
        self._config.profile.undo_log.end()

    async def savepoint(self) -> Leave:
        """Begin a nested isolation, a savepoint; return how to leave it."""
        undo = await self._on_its_loop(self._savepoint)
        return partial(self._on_its_loop, partial(self._undo, undo))

    async def run(self, work: Callable[[Connection], T], *, autocommit: bool) -> T:
        """Run ``work`` as a pool does; from any loop."""
        pool = await self._open()
        return await self._on_its_loop(partial(pool.run, work, autocommit=autocommit))

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[LoopPool]:
        """Yield the pool for a scope. Raises LoopError on another loop."""
        self._check_loop()
        yield await self._open()

    @property
    def engine(self) -> AsyncEngine:
        """The engine of SQLAlchemy whose one connection it is. Raises LoopError on another loop."""
        self._check_loop()
        if not self._opening.done():
            raise PoolClosed(
                f"Database {self._config} has no engine yet: its isolation is about to begin."
            )
        return self._opening.result().engine

    def stats(self) -> PoolStats:
        return self._pools.stats()

    def abandon_after_fork(self) -> None:
        """Forget the connection in a child after a fork, and send nothing on it."""
        self._pools.abandon_after_fork()

    async def _open(self) -> LoopPool:
        if self._opening.done():
            return self._opening.result()
        return await asyncio.shield(asyncio.wrap_future(self._opening))

    def _check_loop(self) -> None:
        if self.cross_loop.is_needed:
            raise LoopError(
                f"Database {self._config} is isolated on another event loop, and its connection "
                "cannot leave that. Queries and transaction() work here, too; for a connection, a "
                "session, a stream or the engine, begin the isolation on the loop that uses them."
            )

    async def _on_its_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await (self.cross_loop.call(work) if self.cross_loop.is_needed else work())

    async def _savepoint(self) -> Undo:
        pool = await self._open()
        async with pool.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            undo = await self._config.profile.savepoint(driver_of(raw.dbapi_connection))
            self._config.profile.undo_log.begin_part(undo)
            self._savepoints.append(undo)
        return undo

    async def _undo(self, undo: Undo) -> None:
        if undo not in self._savepoints:
            return  # a savepoint around it is undone already, and this one with it
        with suppress(PoolClosed, TransactionAborted):  # everything is undone already
            async with self.engine.connect():
                await undo()
                self._config.profile.undo_log.roll_back_part(undo)
                del self._savepoints[self._savepoints.index(undo) :]


Connected = AbstractAsyncContextManager[object]
"""A block in which a database is connected."""


class IsolationManager:
    """The isolation of a database, if there is one; nested ones are savepoints in the first."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._past = PoolStats()
        self.current: Isolation | None = None
        """The isolation, if any; an attribute, since every query outside of scopes reads it."""

    @property
    def cross_loop(self) -> CrossLoopCaller | None:
        """The caller for tasks on other loops than the isolated connection's."""
        return None if self.current is None else self.current.cross_loop

    def block(self, database: Connected) -> AbstractAsyncContextManager[None]:
        """Return a block in which ``database`` is isolated and connected.

        It may be left in another task.

        Raises TransactionError if a scope of it is open in this context.
        """
        return SplitContext(partial(self._enter, database))

    async def _enter(self, database: Connected) -> Leave:
        if current_scope(database) is not None:
            raise TransactionError(
                f"Database {self._config} has an open scope here, which is on a connection of its "
                "own. Isolate the database around the scope, or use "
                "transaction(force_rollback=True) inside of it."
            )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database)
            stack.push_async_callback(await self._begin())
            return stack.pop_all().aclose

    async def _begin(self) -> Leave:
        with self._lock:
            outer = self.current
            isolation = outer or Isolation(self._config)
            self.current = isolation
        if outer is not None:
            return await outer.savepoint()
        try:
            await isolation.begin()
        except BaseException:
            await self._end(isolation)
            raise
        hook = ShutdownHook(partial(self._loop_ends, isolation))
        return partial(self._leave, isolation, hook)

    async def _leave(self, isolation: Isolation, hook: ShutdownHook) -> None:
        if isolation.cross_loop.is_needed:
            hook.disable()
        else:
            hook.cancel()
        await self._end(isolation)

    async def _end(self, isolation: Isolation) -> None:
        try:
            await isolation.end()
        finally:
            self._forget(isolation)

    async def _loop_ends(self, isolation: Isolation) -> None:
        self._forget(isolation)  # its pool gets the same notice
        isolation.restore_objects()

    def _forget(self, isolation: Isolation) -> None:
        with self._lock:
            if self.current is isolation:
                self.current = None
                self._past += isolation.stats()

    def stats(self) -> PoolStats:
        return self._past if self.current is None else self._past + self.current.stats()

    def after_fork(self) -> None:
        """Forget the isolation in a child: its connection and its end are the parent's."""
        self._lock = threading.Lock()
        isolation, self.current = self.current, None
        if isolation is not None:
            isolation.abandon_after_fork()
            keep_forever(isolation)
