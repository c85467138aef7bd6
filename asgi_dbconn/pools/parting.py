"""Giving up a connection: its place is taken until the server knows.

SQLAlchemy would end it by itself, politely for two seconds, and by force if it is cancelled in the
meantime: the statement then runs on, and the pool opens another connection beside it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from asgi_dbconn.pools.connection_closer import Goodbyes
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.statement_lock import driver_of

__all__ = ["begin_to_part", "install", "part_with"]

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
