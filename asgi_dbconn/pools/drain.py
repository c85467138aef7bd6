"""Ending a pool: refuse, wait, cancel on the server, cut, and say what happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from asgi_dbconn.pools.connection_closer import CLOSE_TIMEOUT
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.statistics import DrainReport

__all__ = ["drain"]

_log = logging.getLogger("asgi_dbconn")

_HURRIED_GRACE: Final = 1.0
"""Seconds that are left of the grace when the drain itself is cancelled."""
_HARD_LIMIT: Final = 2.25
"""Seconds after which a goodbye that does not even notice its own limit is abandoned."""


async def drain(
    gate: Gate,
    grace: float,
    *,
    connections: Callable[[], Collection[Any]],
    end: Callable[[Any, float], Coroutine[Any, Any, None]],
    terminate: Callable[[Any], None],
) -> DrainReport:
    """Bring ``connections`` to an end within ``grace`` seconds plus two and a quarter.

    Runs in a task of its own on the pool's loop, and always reports. Cancelled, it does without
    the rest of the grace; cancelled once more, it terminates whatever is left.
    """
    closer: dict[Any, asyncio.Task[None]] = {}

    def close_idle() -> None:
        used = _in_use(gate)
        for connection in connections():
            if connection not in closer and connection not in used:
                closer[connection] = asyncio.create_task(
                    end(connection, CLOSE_TIMEOUT), name=f"closing a connection of {gate.name}"
                )

    gate.close()
    interrupted: set[Any] = set()
    try:
        close_idle()  # to the idle ones, while the others finish
        try:
            finished = await gate.wait_until_unused(grace)
        except asyncio.CancelledError:
            # The loop is about to end, and those who hold connections are most likely cancelled,
            # too: they cancel their statements on the server themselves, if nobody interferes.
            finished = await gate.wait_until_unused(_HURRIED_GRACE)
        if not finished:
            interrupted = _in_use(gate)
            _log_holders(gate, grace)
            for connection in interrupted:
                closer[connection] = asyncio.create_task(
                    end(connection, CLOSE_TIMEOUT), name=f"cancelling work on {gate.name}"
                )
        close_idle()  # to those that came back
        if closer:
            await asyncio.wait(closer.values(), timeout=_HARD_LIMIT)
    except asyncio.CancelledError:
        _log.debug("database %r: no time is left for goodbyes", gate.name)
    finally:
        report = _report(closer, interrupted)
        for connection in [*connections(), *(c for c, task in closer.items() if not task.done())]:
            terminate(connection)
        for task in closer.values():
            task.cancel()
    return report


def _in_use(gate: Gate) -> set[Any]:
    return {permit.connection for permit in gate.holders() if permit.connection is not None}


def _report(closer: dict[Any, asyncio.Task[None]], interrupted: set[Any]) -> DrainReport:
    polite = {
        connection
        for connection, task in closer.items()
        if task.done() and not task.cancelled() and task.exception() is None
    }
    return DrainReport(
        closed=len(polite - interrupted),
        cancelled=len(polite & interrupted),
        cut=len(closer) - len(polite),
    )


def _log_holders(gate: Gate, grace: float) -> None:
    holders = ", ".join(str(permit) for permit in gate.holders())
    _log.warning(
        "database %r: %d connections are still in use %.1f s after disconnect() "
        "(shutdown_timeout); cancelling their work. Held by: %s",
        gate.name,
        gate.in_use,
        grace,
        holders,
    )
