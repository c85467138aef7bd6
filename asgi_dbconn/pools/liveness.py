"""The trust in pooled connections, and asking those that cannot be trusted.

A connection that was used a moment ago is taken as it is: no round trip is spent on it. One that
lay idle for longer is asked first, within a bound of its own, and one that is too old, or from
before a refresh, is replaced. HikariCP does the same ("alive bypass window").
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any, Final

from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from asgi_dbconn.loops.tasks import retrieve_error
from asgi_dbconn.pools.connection_closer import CLOSE_TIMEOUT, ConnectionCloser
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statement_lock import driver_of

__all__ = ["Liveness"]

_USED_AT: Final = "asgi_dbconn.used_at"
_RETIRE_AT: Final = "asgi_dbconn.retire_at"
_GENERATION: Final = "asgi_dbconn.generation"

_PING_LIMIT: Final = 1.0
"""Seconds that an idle connection has to answer, however long the acquire may take."""
_LIFETIME_SPREAD: Final = 0.2
"""Connections retire up to a fifth earlier than ``max_lifetime``, one after another."""


class Liveness:
    """The judgement of one pool; lives as long as it, on its loop."""

    def __init__(self, config: PoolConfig, events: Events, closer: ConnectionCloser) -> None:
        self._config = config
        self._closer = closer
        self._events = events
        self._loop = asyncio.get_running_loop()
        profile = config.profile  # what follows is looked at for every acquire
        self._is_open = profile.is_open
        self._trusted_for = config.options.idle_check_after if profile.can_be_lost else math.inf
        # Another part of a slot in every process, for those that were started together.
        self._discard = random.random()  # noqa: S311 - spreads load
        self._last_retirement = -math.inf
        self.generation = 0
        """Raised by a refresh: connections of an earlier one are replaced when next asked for."""

    def note_opened(self, record: ConnectionPoolEntry) -> None:
        # A slot after the one before, and not by chance: ten that were opened together, or one
        # after the other, must not meet again.
        now, lifetime = self._loop.time(), self._config.options.max_lifetime
        slot = lifetime * _LIFETIME_SPREAD / self._config.options.pool_size
        earliest = now + lifetime * (1 - _LIFETIME_SPREAD) + slot * self._discard
        retirement = self._last_retirement + slot
        if not earliest <= retirement < now + lifetime:
            retirement = earliest
        record.info[_RETIRE_AT] = self._last_retirement = retirement
        record.info[_GENERATION] = self.generation

    def note_returned(self, record: ConnectionPoolEntry) -> None:
        record.info[_USED_AT] = self._loop.time()

    def is_usable(self, connection: PoolProxiedConnection, deadline: float) -> bool:
        """Return whether to hand ``connection`` out.

        Inside SQLAlchemy's greenlet: may ask the server.

        One that is not is ended already; the pool only has to forget it.
        """
        info, now, driver = (
            connection.info,
            self._loop.time(),
            driver_of(connection.dbapi_connection),
        )
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
                # cancel, and closing politely would wait: both over the same dead network.
                self._config.profile.terminate(driver)
        return answered
