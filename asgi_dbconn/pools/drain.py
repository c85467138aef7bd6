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

_POLITE_LIMIT: Final = 2.0
"""Seconds that saying goodbye to the server may take."""
_HURRIED_GRACE: Final = 1.0
"""Seconds that are left of the grace when the drain itself is cancelled."""
_HARD_LIMIT: Final = 2.25
"""Seconds after which a goodbye that does not even notice its own limit is abandoned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What the end of a database looked like, summed over its loops."""

    closed: int = 0
    """Connections closed in good order."""
    cancelled: int = 0
    """Connections still in use after the grace: their statement was cancelled on the server."""
    cut: int = 0
    """Connections whose network did not answer in time, or whose loop was gone."""

    def __str__(self) -> str:
        return f"{self.closed} closed, {self.cancelled} cancelled, {self.cut} cut"

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
    end: Callable[[Any, float], Coroutine[Any, Any, None]],
    terminate: Callable[[Any], None],
) -> DrainReport:
    """Bring ``connections`` to an end within ``grace`` seconds plus two and a quarter.

    Runs on the pool's own loop. Cancelled, it does without the rest of the grace; cancelled once
    more, it terminates whatever is left and lets go.
    """
    goodbyes: dict[Any, asyncio.Task[None]] = {}

    def say_goodbye() -> None:
        used = _in_use(gate)
        for each in connections():
            if each not in goodbyes and each not in used:
                goodbyes[each] = asyncio.create_task(
                    end(each, _POLITE_LIMIT), name=f"closing a connection of {gate.name}"
                )

    gate.close()
    interrupted: set[Any] = set()
    hurry: asyncio.CancelledError | None = None
    try:
        say_goodbye()  # to the idle ones, while the others finish
        try:
            finished = await gate.wait_until_unused(grace)
        except asyncio.CancelledError as error:
            # The loop is about to end, and those who hold connections are most likely cancelled,
            # too: they cancel their statements on the server themselves, if nobody interferes.
            hurry = error
            finished = await gate.wait_until_unused(_HURRIED_GRACE)
        if not finished:
            interrupted = _in_use(gate)
            _log_holders(gate, grace)
            for each in interrupted:
                goodbyes[each] = asyncio.create_task(
                    end(each, _POLITE_LIMIT), name=f"cancelling work on {gate.name}"
                )
        say_goodbye()  # to those that came back
        if goodbyes:
            await asyncio.wait(goodbyes.values(), timeout=_HARD_LIMIT)
    finally:
        for each in [*connections(), *(c for c, task in goodbyes.items() if not task.done())]:
            terminate(each)
        for task in goodbyes.values():
            task.cancel()
    if hurry is not None:
        raise hurry
    return _report(goodbyes, interrupted)


def _in_use(gate: Gate) -> set[Any]:
    return {permit.connection for permit in gate.holders() if permit.connection is not None}


def _report(goodbyes: dict[Any, asyncio.Task[None]], interrupted: set[Any]) -> DrainReport:
    polite = {
        connection
        for connection, task in goodbyes.items()
        if task.done() and not task.cancelled() and task.exception() is None
    }
    return DrainReport(
        closed=len(polite - interrupted),
        cancelled=len(polite & interrupted),
        cut=len(goodbyes) - len(polite),
    )


def _log_holders(gate: Gate, grace: float) -> None:
    holders = ", ".join(permit.holder for permit in gate.holders())
    _log.warning(
        "database %r: %d connections are still in use %.1f s after disconnect() "
        "(shutdown_timeout); cancelling their work. Held by: %s",
        gate.name,
        gate.in_use,
        grace,
        holders,
    )
