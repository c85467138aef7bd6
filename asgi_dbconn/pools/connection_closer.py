"""Background closes: end single connections while their pool goes on.

A connection that is discarded may have a statement to cancel, and a network that does not answer.
No task waits for that for long: the close goes on in the background, within a bound.
"""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from functools import partial
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statement_lock import driver_of

__all__ = ["CLOSE_TIMEOUT", "ConnectionCloser", "begin_discard", "discard", "install"]


CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing a connection, with a request to cancel, may take."""


class ConnectionCloser:
    """The background closes of one pool; lives on the pool's loop."""

    def __init__(self, config: PoolConfig) -> None:
        self._database = config.name
        self._profile = config.profile
        self._tasks: dict[Any, asyncio.Task[None]] = {}
        self._closed: weakref.WeakSet[Any] = weakref.WeakSet()

    def __contains__(self, connection: Any) -> bool:
        """Return whether ``connection`` is being closed at this moment."""
        return connection in self._tasks

    def was_closed_by_us(self, connection: Any) -> bool:
        """Return whether we closed ``connection``, or are about to."""
        return connection in self._closed

    def close_in_background(self, connection: Any) -> asyncio.Task[None] | None:
        """Begin to close ``connection``, and cancel what it executes. A second call is harmless.

        Return the task of the close, or None if it has ended already.
        """
        if connection not in self._closed:
            self._closed.add(connection)
            # Now, not when the task begins: SQLAlchemy may be about to end it, too.
            self._profile.disable_implicit_close(connection)
            task = asyncio.create_task(
                self._close(connection), name=f"closing a connection of {self._database}"
            )
            self._tasks[connection] = task
            # Not in the task itself: one that is cancelled before its first step never runs.
            task.add_done_callback(partial(self._terminate, connection))
        return self._tasks.get(connection)

    async def wait_for(self, connection: Any, timeout: float) -> None:
        """Wait until ``connection`` has ended, or ``timeout`` seconds; never raise its error."""
        task = self._tasks.get(connection)
        if task is not None:
            await asyncio.wait({task}, timeout=timeout)

    async def wait_closed(self) -> None:
        """Wait until all have ended, which is bounded."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    async def _close(self, connection: Any) -> None:
        with suppress(Exception):  # any failure: it is terminated below
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._profile.close(connection, CLOSE_TIMEOUT)

    def _terminate(self, connection: Any, _: object) -> None:
        del self._tasks[connection]
        self._profile.terminate(connection)


_SHORT_WAIT: Final = 0.1
"""Seconds in which a server nearby has stopped the statement and ended its session."""


def install(engine: Engine, gate: Gate, closer: ConnectionCloser) -> None:
    """Let the connections that ``engine`` invalidates be closed in the background."""
    # The dialect is the engine's own, and has no event for this.
    by_force = engine.dialect.do_terminate

    def do_terminate(connection: DBAPIConnection) -> None:
        driver: Any = driver_of(connection)
        if not in_greenlet():  # the garbage collector: nothing can be awaited
            by_force(connection)
        elif not closer.was_closed_by_us(driver):
            discard(driver, gate, closer)

    setattr(engine.dialect, do_terminate.__name__, do_terminate)


def discard(driver: Any, gate: Gate, closer: ConnectionCloser) -> None:
    """Close the driver's connection in the background; wait briefly, since it often succeeds.

    Inside SQLAlchemy's greenlet. Cancelled, it only waits for less.
    """
    begin_discard(driver, gate, closer)
    await_only(closer.wait_for(driver, _SHORT_WAIT))


def begin_discard(driver: Any, gate: Gate, closer: ConnectionCloser) -> None:
    """Close the driver's connection in the background; its permit is held until it has ended."""
    task = closer.close_in_background(driver)
    for permit in gate.holders():
        if permit.connection is driver:
            permit.cleanup = task
