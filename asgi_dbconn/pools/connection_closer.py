"""Ending single connections while their pool goes on.

A connection that is given up may have a statement to cancel, and a network that does not answer. No
task waits for that for long: the goodbye goes on by itself, within a bound.
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
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.statement_lock import driver_of

__all__ = ["POLITE_LIMIT", "Goodbyes", "begin_to_part", "install", "part_with"]


POLITE_LIMIT: Final = 2.0
"""Seconds that saying goodbye to the server may take."""


class Goodbyes:
    """The connections of one pool that are on their way out; lives on the pool's loop."""

    def __init__(self, target: Target) -> None:
        self._database = target.name
        self._profile = target.profile
        self._leaving: dict[Any, asyncio.Task[None]] = {}
        self._said: weakref.WeakSet[Any] = weakref.WeakSet()

    def __contains__(self, connection: Any) -> bool:
        """Return whether ``connection`` is on its way out at this moment."""
        return connection in self._leaving

    def was_said(self, connection: Any) -> bool:
        """Return whether we ended ``connection``, or are about to."""
        return connection in self._said

    def say(self, connection: Any) -> asyncio.Task[None] | None:
        """Begin to end ``connection``, and what it is executing. Saying it twice is harmless.

        Returns the task that is at it, or None if it has ended already.
        """
        if connection not in self._said:
            self._said.add(connection)
            # Now, not when the task begins: SQLAlchemy may be about to end it, too.
            self._profile.take_care_of(connection)
            goodbye = asyncio.create_task(
                self._part(connection), name=f"ending a connection of {self._database}"
            )
            self._leaving[connection] = goodbye
            # Not in the task itself: one that is cancelled before its first step never runs.
            goodbye.add_done_callback(partial(self._hang_up, connection))
        return self._leaving.get(connection)

    async def wait_for(self, connection: Any, timeout: float) -> None:
        """Wait until ``connection`` has ended, or ``timeout`` seconds; never raise its error."""
        goodbye = self._leaving.get(connection)
        if goodbye is not None:
            await asyncio.wait({goodbye}, timeout=timeout)

    async def settle(self) -> None:
        """Wait until all have ended, which is bounded."""
        if self._leaving:
            await asyncio.wait(set(self._leaving.values()))

    async def _part(self, connection: Any) -> None:
        with suppress(Exception):  # however it failed, what is left is to hang up
            async with asyncio.timeout(POLITE_LIMIT):
                await self._profile.end(connection, POLITE_LIMIT)

    def _hang_up(self, connection: Any, _: object) -> None:
        del self._leaving[connection]
        self._profile.terminate(connection)


_MOMENT: Final = 0.1
"""Seconds in which a server nearby has stopped the statement and ended its session."""


def install(engine: Engine, gate: Gate, goodbyes: Goodbyes) -> None:
    """Part like that with whatever ``engine`` invalidates."""
    # The dialect is the engine's own, and has no event for this.
    by_force = engine.dialect.do_terminate

    def do_terminate(connection: DBAPIConnection) -> None:
        driver: Any = driver_of(connection)
        if not in_greenlet():  # the garbage collector: nothing can be awaited
            by_force(connection)
        elif not goodbyes.was_said(driver):
            part_with(driver, gate, goodbyes)

    setattr(engine.dialect, do_terminate.__name__, do_terminate)


def part_with(driver: Any, gate: Gate, goodbyes: Goodbyes) -> None:
    """End the driver's connection in the background; wait for a moment in which it may succeed.

    Inside SQLAlchemy's greenlet. Cancelled, it only waits for less.
    """
    begin_to_part(driver, gate, goodbyes)
    await_only(goodbyes.wait_for(driver, _MOMENT))


def begin_to_part(driver: Any, gate: Gate, goodbyes: Goodbyes) -> None:
    """End the driver's connection in the background; its slot is taken until it has ended."""
    goodbye = goodbyes.say(driver)
    for permit in gate.holders():
        if permit.connection is driver:
            permit.aftermath = goodbye
