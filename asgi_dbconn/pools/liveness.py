"""The liveness check of pooled connections, and their retirement.

A connection that was used a moment ago is trusted: no round trip is spent on it. One that was idle
for longer is pinged first, within a bound of its own, and one that is too old, or from before a
refresh, is replaced. HikariCP does the same ("alive bypass window").
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import await_only

from asgi_dbconn.loops.tasks import retrieve_error
from asgi_dbconn.pools.connection_closer import CLOSE_TIMEOUT, ConnectionCloser
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig

__all__ = ["Liveness"]

_USED_AT: Final = "asgi_dbconn.used_at"
_RETIRE_AT: Final = "asgi_dbconn.retire_at"
_GENERATION: Final = "asgi_dbconn.generation"

_PING_LIMIT: Final = 1.0
"""Seconds that an idle connection has to answer, however long the acquire may take."""
_LIFETIME_SPREAD: Final = 0.2
"""Connections retire up to a fifth earlier than ``max_lifetime``, one after another."""


class Liveness:
    """The liveness check of one pool; lives as long as it, on its loop."""

    def __init__(self, config: PoolConfig, events: Events, closer: ConnectionCloser) -> None:
        self._config = config
        self._closer = closer
        self._events = events
        self._loop = asyncio.get_running_loop()
        profile = config.profile  # attributes, since every acquire reads them
        self._is_open = profile.is_open
        self._trusted_for = config.options.idle_check_after if profile.can_be_lost else math.inf
        # Another offset in every process, for those that were started together.
        self._offset = random.random()  # noqa: S311 - spreads load
        self._last_retirement = -math.inf
        self.generation = 0
        """Raised by a refresh: a connection of an earlier one is replaced at its next acquire."""

    def note_opened(self, record: ConnectionPoolEntry) -> None:
        # One step after the connection before, and not at random: ten that were opened together,
        # or one after the other, must not retire together.
        now, lifetime = self._loop.time(), self._config.options.max_lifetime
        step = lifetime * _LIFETIME_SPREAD / self._config.options.pool_size
        earliest = now + lifetime * (1 - _LIFETIME_SPREAD) + step * self._offset
        retirement = self._last_retirement + step
        if not earliest <= retirement < now + lifetime:
            retirement = earliest
        record.info[_RETIRE_AT] = self._last_retirement = retirement
        record.info[_GENERATION] = self.generation

    def note_returned(self, record: ConnectionPoolEntry) -> None:
        record.info[_USED_AT] = self._loop.time()

    def is_usable(self, driver: Any, info: Mapping[str, Any], deadline: float) -> bool:
        """Return whether a connection can be used. If not, it is closed already.

        ``driver`` is the driver's connection, and ``info`` that of SQLAlchemy's record.

        Inside SQLAlchemy's greenlet: may ping the server. The pool only has to forget a connection
        that cannot be used.
        """
        now = self._loop.time()
        if driver in self._closer:
            await_only(self._closer.wait_for(driver, min(CLOSE_TIMEOUT, deadline - now)))
            return False
        if not self._is_open(driver):
            if not self._closer.was_closed_by_us(driver):
                self._events.note_lost("the server ended an idle connection")
            return False
        if now >= info[_RETIRE_AT] or info[_GENERATION] != self.generation:
            self._events.note_retired()
            return False
        idle_since = info.get(_USED_AT)
        if idle_since is None or now - idle_since <= self._trusted_for:
            return True  # opened for this acquire, or used a moment ago
        return await_only(self._answers(driver, min(_PING_LIMIT, deadline - now)))

    async def _answers(self, driver: Any, limit: float) -> bool:
        ping = asyncio.create_task(
            self._config.profile.ping(driver), name=f"ping of {self._config.name}"
        )
        ping.add_done_callback(retrieve_error)
        try:
            await asyncio.wait({ping}, timeout=max(limit, 0))
        finally:
            answered = ping.done() and ping.exception() is None
            if not answered:
                self._events.note_lost("an idle connection did not answer")
                # This ends the ping as well. Cancelling it would send the server a request to
                # cancel, and a close would wait for it: both over the same dead network.
                self._config.profile.terminate(driver)
        return answered
