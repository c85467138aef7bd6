"""Transient engines: one for each query on an unconnected database, with a warning."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.errors import DatabaseNotConnectedWarning, DatabaseUnavailable
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statistics import Counters

__all__ = ["TransientEngines"]

_DRAIN_GRACE: Final = 0.0  # seconds: no other task can use an engine that was made for one query


class TransientEngines:
    """The transient engines of one database: made for one use, bounded in number, disposed of."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        # Only loops with transient work under way are kept: a gate holds on to its loop.
        self.counters = Counters()
        self.uses = 0
        self._lock = threading.Lock()
        self._gates: dict[asyncio.AbstractEventLoop, Gate] = {}

    @asynccontextmanager
    async def pool(self, site: CallSite) -> AsyncIterator[LoopPool]:
        """Yield a pool for one verb or scope, drained when the block ends.

        Warns at ``site`` first; where that warning is an error, nothing is opened. At most
        ``pool_size`` of these exist at a time on a loop; more wait up to ``acquire_timeout``.
        """
        self._warn(site)
        self._config.observers.notify(Observer.used_unconnected, self._config.name)
        async with self._acquire_permit():
            pool = LoopPool(self._config)
            try:
                yield pool
            finally:
                await pool.drain(_DRAIN_GRACE)
                with self._lock:
                    self.uses += 1
                    self.counters.add(pool.counters)

    def _warn(self, site: CallSite) -> None:
        config = self._config
        if config.url.is_memory:
            raise DatabaseUnavailable(
                f"Database {config} lives in memory and is not connected: all that this query "
                "wrote would be lost immediately. Enter `async with models:` or wrap the "
                "application with `models.asgi(app)` first."
            )
        site.warn(
            f"Database {config} is not connected: this query opens an engine for itself and closes "
            "it again, which takes many times as long as the query. Wrap the application with "
            f"`models.asgi(app)` or enter `async with models:`. "
            f"[{DatabaseNotConnectedWarning.code}]",
            DatabaseNotConnectedWarning,
        )

    @asynccontextmanager
    async def _acquire_permit(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        options = self._config.options
        gate = self._gates.get(loop)
        if gate is None:
            gate = self._gates[loop] = Gate(
                self._config.name, options.pool_size, options.acquire_timeout
            )
        try:
            permit = gate.acquire_nowait() or await gate.acquire()
            try:
                yield
            finally:
                gate.release(permit)
        finally:
            if not gate.in_use and not gate.queue_length:
                self._gates.pop(loop, None)
