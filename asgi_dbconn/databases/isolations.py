"""The isolation of a database, as for a test, and how it comes to be."""

from __future__ import annotations

import threading
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

from asgi_dbconn.databases.cross_loop_calls import Crossing
from asgi_dbconn.databases.isolation import Isolation, Leave
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.split_context import TwoSteps
from asgi_dbconn.errors import TransactionError
from asgi_dbconn.loops.ending import EndGuard
from asgi_dbconn.loops.fork import park
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.statistics import PoolStats

__all__ = ["Isolations"]

Connected = AbstractAsyncContextManager[object]
"""A block in which something is connected, as a database is."""


class Isolations:
    """The isolation of a database, if there is one; nested ones are parts of the first."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._past = PoolStats()
        self.current: Isolation | None = None
        """The isolation, if any; an attribute, since it is read for every query in no scope."""

    @property
    def crossing(self) -> Crossing | None:
        """The way to the isolated connection from other loops."""
        return None if self.current is None else self.current.crossing

    def block(self, database: Connected) -> AbstractAsyncContextManager[None]:
        """Return a block in which ``database`` is isolated and connected.

        It may be left in another task.

        Raises TransactionError if a scope of it is open in this context.
        """
        return TwoSteps(partial(self._enter, database))

    async def _enter(self, database: Connected) -> Leave:
        if current_scope(database) is not None:
            raise TransactionError(
                f"Database {self._target} has an open scope here, which is on a connection of its "
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
            isolation = outer or Isolation(self._target)
            self.current = isolation
        if outer is not None:
            return await outer.mark()
        try:
            await isolation.begin()
        except BaseException:
            await self._end(isolation)
            raise
        guard = EndGuard(partial(self._loop_ends, isolation))
        return partial(self._leave, isolation, guard)

    async def _leave(self, isolation: Isolation, guard: EndGuard) -> None:
        if isolation.crossing.is_needed:
            guard.disarm()
        else:
            guard.dismiss()
        await self._end(isolation)

    async def _end(self, isolation: Isolation) -> None:
        try:
            await isolation.end()
        finally:
            self._forget(isolation)

    async def _loop_ends(self, isolation: Isolation) -> None:
        self._forget(isolation)  # its pool is told, too
        isolation.restore_objects()

    def _forget(self, isolation: Isolation) -> None:
        with self._lock:
            if self.current is isolation:
                self.current = None
                self._past += isolation.stats()

    def stats(self) -> PoolStats:
        return self._past if self.current is None else self._past + self.current.stats()

    def after_fork(self) -> None:
        """Forget, in a child, the isolated connection and its end: they are the parent's."""
        self._lock = threading.Lock()
        isolation, self.current = self.current, None
        if isolation is not None:
            isolation.leave_to_parent()
            park(isolation)
