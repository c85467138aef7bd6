"""The pools of one database, by event loop: made at the first use, ended with the loop."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from asgi_dbconn.databases.reference_count import ReferenceCount, State
from asgi_dbconn.databases.startup import BackgroundConnect
from asgi_dbconn.errors import DatabaseUnavailable, PoolClosed, UnclosedDatabaseWarning
from asgi_dbconn.loops import default_loop
from asgi_dbconn.loops.deadlocks import is_blocked
from asgi_dbconn.loops.fork import keep_forever
from asgi_dbconn.loops.loop_lifetime import ShutdownHook
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statistics import Counters, DrainReport, PoolStats

__all__ = ["LoopPools"]

_LOOP_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds for work in flight when a loop ends. ``asyncio.run`` has cancelled all tasks by then."""
_HARD_LIMIT: Final = 2.5
"""Seconds beyond the grace after which a pool on another loop is aborted instead of drained."""


@dataclass(slots=True)
class _Member:
    pool: LoopPool
    hook: ShutdownHook


class LoopPools:
    """The pools of one database, by loops that are strong keys.

    A pooled connection refers to its loop, so a weak key would never be dropped. Instead a shutdown
    hook drains the pool of a loop that ends, and :meth:`sweep` finds one that was just closed.
    """

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._past_stats = Counters()
        self._members: dict[asyncio.AbstractEventLoop, _Member] = {}
        self._background_connect: BackgroundConnect | None = None
        self._home: asyncio.AbstractEventLoop | None = None

    @property
    def home_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that the database was connected on, as long as it has a pool there."""
        return self._home if self._home in self._members else None

    def __len__(self) -> int:
        return len(self._members)

    def for_running_loop(self, references: ReferenceCount, lock: threading.Lock) -> LoopPool | None:
        """Return the running loop's pool, made now if the database is open; None if it is not.

        Raises PoolClosed while the database disconnects.
        """
        loop = asyncio.get_running_loop()
        member = self._members.get(loop)  # one dict access is atomic: no lock on the request path
        if member is not None:
            return member.pool
        with lock:
            if references.state is State.DRAINING:
                raise PoolClosed(
                    f"Database {self._config.name!r} is disconnecting and takes no new work."
                )
            if references.state is not State.OPEN:
                return None
            if self._background_connect is not None and self._background_connect.is_pending:
                raise self._background_connect.error()
            return self._add(loop, LoopPool(self._config))

    async def open_or_retry(self, prove: Callable[[LoopPool], Awaitable[None]]) -> None:
        """Do as :meth:`open_first`, for an optional database, which may connect later."""
        try:
            await self.open_first(prove)
        except DatabaseUnavailable as failure:
            self._background_connect = BackgroundConnect(
                self._config, failure, partial(self.open_first, prove)
            )

    async def open_first(self, prove: Callable[[LoopPool], Awaitable[None]]) -> LoopPool:
        """Make the running loop's pool, and keep it if ``prove`` does not raise."""
        pool = LoopPool(self._config)
        try:
            await prove(pool)
        except BaseException:
            await pool.drain(0.0)
            self._past_stats.add(pool.counters)
            raise
        self._add(pool.loop, pool)
        self._home = pool.loop
        default_loop.register_app_loop(pool.loop)
        return pool

    async def drain_all(self) -> DrainReport:
        """Drain every pool, each on its own loop, all at the same time."""
        if self._background_connect is not None:
            await self._background_connect.stop()
            self._background_connect = None
        self.sweep()
        outcomes = await asyncio.gather(
            *(self._end(member.pool) for member in list(self._members.values())),
            return_exceptions=True,
        )
        report = DrainReport()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            report += outcome
        return report

    def stats(self) -> PoolStats:
        """Return the sum of all pools, with the counts of those that have ended."""
        self.sweep()
        pools = [member.pool for member in list(self._members.values())]
        counted = Counters()
        for counters in (self._past_stats, *(pool.counters for pool in pools)):
            counted.add(counters)
        return sum((pool.stats() for pool in pools), PoolStats(**asdict(counted)))

    async def refresh_all(self) -> None:
        """Replace the connections of every pool: now, or if its loop cannot, at their next use."""
        here = asyncio.get_running_loop()
        members = list(self._members.items())
        for _, member in members:
            member.pool.mark_outdated()
        await asyncio.gather(
            *(
                member.pool.replace_idle()
                if loop is here
                else asyncio.wrap_future(
                    asyncio.run_coroutine_threadsafe(member.pool.replace_idle(), loop)
                )
                for loop, member in members
                if loop.is_running() and not is_blocked(loop)
            )
        )

    def abort_all(self) -> None:
        """End every pool without waiting: by a drain if its loop runs, and else by an abort."""
        for loop, member in list(self._members.items()):
            if loop.is_running() and not is_blocked(loop):
                with suppress(RuntimeError):  # closed this very moment
                    loop.call_soon_threadsafe(
                        member.pool.begin_drain, self._config.options.shutdown_timeout
                    )
            else:
                member.pool.abort()
                member.hook.disable()
            self._past_stats.add(member.pool.counters)
        self._members.clear()
        self._home = None

    def abort_remaining(self) -> None:
        """Abort the pools that are left after :meth:`drain_all`, or instead of it."""
        for member in list(self._members.values()):
            if not member.pool.ended.done():
                member.pool.abort()
            member.hook.disable()  # nothing is left to do, even for a blocked loop
            self._past_stats.add(member.pool.counters)
        self._members.clear()
        self._home = None

    def abandon_after_fork(self) -> None:
        """Forget the pools in a child after a fork, and send nothing on their connections."""
        for member in self._members.values():
            member.hook.disable()  # a child may end the loop that it inherited
        keep_forever((self._members, self._background_connect))
        self._members, self._background_connect, self._home = {}, None, None

    def _add(self, loop: asyncio.AbstractEventLoop, pool: LoopPool) -> LoopPool:
        self.sweep()
        hook = ShutdownHook(partial(self._loop_ends, pool))
        # Only once it is drained: if the loop ends meanwhile, it has to wait for that.
        pool.on_drained(hook.cancel)
        self._members[loop] = _Member(pool, hook)
        return pool

    def sweep(self) -> None:
        """Abort the pools of loops that were closed without a shutdown, and warn of them."""
        # A list in one step: other threads add and remove their loops meanwhile.
        for loop in list(self._members):
            member = self._members.pop(loop, None) if loop.is_closed() else None
            report = member.pool.abort() if member is not None else DrainReport()
            if report.cut:
                _warn_of_closed_loop(self._config, report.cut)
            if member is not None:
                self._past_stats.add(member.pool.counters)

    async def _loop_ends(self, pool: LoopPool) -> None:
        self._members.pop(pool.loop, None)
        await pool.drain(min(self._config.options.shutdown_timeout, _LOOP_SHUTDOWN_TIMEOUT))
        self._past_stats.add(pool.counters)

    async def _end(self, pool: LoopPool) -> DrainReport:
        grace = self._config.options.shutdown_timeout
        if pool.loop is asyncio.get_running_loop():
            return await pool.drain(grace)
        if pool.loop.is_running() and not is_blocked(pool.loop):
            # A RuntimeError says that the loop was closed this very moment.
            with suppress(TimeoutError, RuntimeError):
                pool.loop.call_soon_threadsafe(pool.begin_drain, grace)
                # A loop that is about to end may never run that, but its shutdown hook drains the
                # pool; either way ``ended`` is set.
                async with asyncio.timeout(grace + _HARD_LIMIT):
                    return await asyncio.shield(asyncio.wrap_future(pool.ended))
        # Closed, stopped, stuck, or waiting for us: no clean-up would run there.
        return pool.abort()


def _warn_of_closed_loop(config: PoolConfig, connections: int) -> None:
    warnings.warn(
        f"An event loop was closed with {connections} connections of database {config} still open; "
        "they have been aborted. Call loop.run_until_complete(loop.shutdown_asyncgens()) before "
        f"loop.close(), or use asyncio.Runner. [{UnclosedDatabaseWarning.code}]",
        UnclosedDatabaseWarning,
        stacklevel=2,
    )
