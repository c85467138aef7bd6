"""Ending a pool: refuse, wait, cancel on the server, cut, and say what happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from asgi_dbconn.pools.gate import Gate

__all__ = ["DrainReport", "drain"]

_log = logging.getLogger("asgi_dbconn")

_HARD_LIMIT: Final = 2.0
"""Seconds that ending what is left may take, once the grace is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What the end of a database looked like, summed over its loops."""

    closed: int = 0
    """Connections closed in good order."""
    cancelled: int = 0
    """Connections still in use after the grace: their statement was cancelled on the server."""
    cut: int = 0
    """Connections whose network did not answer in time, or whose loop was gone."""

    def __add__(self, other: DrainReport) -> DrainReport:
        return DrainReport(
            closed=self.closed + other.closed,
            cancelled=self.cancelled + other.cancelled,
            cut=self.cut + other.cut,
        )


async def drain(
    gate: Gate,
    grace: float,
    *,
    connections: Callable[[], Collection[Any]],
    close_idle: Callable[[], Coroutine[Any, Any, None]],
    end: Callable[[Any, float], Coroutine[Any, Any, None]],
    terminate: Callable[[Any], None],
) -> DrainReport:
    """Bring ``connections`` to an end within ``grace`` seconds plus two.

    Runs on the pool's own loop. Cancelled, it terminates whatever is left before it lets go.
    """
    gate.close()
    total = len(connections())
    closing = [asyncio.create_task(close_idle(), name=f"closing idle connections of {gate.name}")]
    cancelled = 0
    try:
        if not await gate.wait_until_unused(grace):
            _log_holders(gate, grace)
            cancelled = gate.in_use
            closing += [
                asyncio.create_task(end(each, _HARD_LIMIT), name=f"ending work on {gate.name}")
                for each in connections()
            ]
        else:
            # What was in use a moment ago lies idle in the pool now.
            closing.append(
                asyncio.create_task(close_idle(), name=f"closing connections of {gate.name}")
            )
        await asyncio.wait(closing, timeout=_HARD_LIMIT)
    finally:
        left = list(connections())
        for each in left:
            terminate(each)
        for task in closing:
            task.cancel()
    await asyncio.gather(*closing, return_exceptions=True)
    return DrainReport(
        closed=total - cancelled - len(left), cancelled=max(cancelled - len(left), 0), cut=len(left)
    )


def _log_holders(gate: Gate, grace: float) -> None:
    holders = ", ".join(permit.holder for permit in gate.holders())
    _log.warning(
        "Database %r: %d connections are still in use %.1f s after disconnect() (shutdown_timeout); "
        "cancelling their work. Held by: %s",
        gate.name, gate.in_use, grace, holders,
    )  # fmt: skip
