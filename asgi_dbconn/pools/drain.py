"""The drain that ends a pool: refuse, wait, cancel on the server, terminate, and report."""

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
"""Seconds after which a close that exceeds its own limit is abandoned."""


async def drain(
    gate: Gate,
    grace: float,
    *,
    connections: Callable[[], Collection[Any]],
    end: Callable[[Any, float], Coroutine[Any, Any, None]],
    terminate: Callable[[Any], None],
) -> DrainReport:
    """Close ``connections`` within ``grace`` seconds plus two and a quarter.

    Runs in a task of its own on the pool's loop, and always reports. Cancelled, it skips the
    rest of the grace; cancelled once more, it terminates the connections that are left.
    """
    closes: dict[Any, asyncio.Task[None]] = {}

    def close_idle() -> None:
        used = _in_use(gate)
        for connection in connections():
            if connection not in closes and connection not in used:
                closes[connection] = asyncio.create_task(
                    end(connection, CLOSE_TIMEOUT), name=f"closing a connection of {gate.name}"
                )

    gate.close()
    interrupted: set[Any] = set()
    try:
        close_idle()  # while the others finish
        try:
            finished = await gate.wait_until_unused(grace)
        except asyncio.CancelledError:
            # The loop is about to end, and the tasks that hold connections are most likely
            # cancelled, too: they cancel their statements on the server, if left alone.
            finished = await gate.wait_until_unused(_HURRIED_GRACE)
        if not finished:
            interrupted = _in_use(gate)
            _log_holders(gate, grace)
            for connection in interrupted:
                closes[connection] = asyncio.create_task(
                    end(connection, CLOSE_TIMEOUT), name=f"cancelling work on {gate.name}"
                )
        close_idle()  # those that came back
        if closes:
            await asyncio.wait(closes.values(), timeout=_HARD_LIMIT)
    except asyncio.CancelledError:
        _log.debug("database %r: no time is left to close connections", gate.name)
    finally:
        report = _report(closes, interrupted)
        for connection in [
            *connections(),
            *(driver for driver, task in closes.items() if not task.done()),
        ]:
            terminate(connection)
        for task in closes.values():
            task.cancel()
    return report


def _in_use(gate: Gate) -> set[Any]:
    return {permit.connection for permit in gate.holders() if permit.connection is not None}


def _report(closes: dict[Any, asyncio.Task[None]], interrupted: set[Any]) -> DrainReport:
    closed_in_time = {
        connection
        for connection, task in closes.items()
        if task.done() and not task.cancelled() and task.exception() is None
    }
    return DrainReport(
        closed=len(closed_in_time - interrupted),
        cancelled=len(closed_in_time & interrupted),
        cut=len(closes) - len(closed_in_time),
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
