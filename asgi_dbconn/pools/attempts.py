"""Physical connects under way, each in a task of its own that nobody's cancellation interrupts.

An acquire that is cancelled, or runs out of time, goes away; its attempt is left to finish, and
closed. A driver that is cancelled in the middle of a handshake leaves sockets and unread errors
behind. The driver's own limit, ``connect_timeout``, ends every attempt.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from asgi_dbconn.pools.target import Target

__all__ = ["Attempts"]

_SETTLING_LIMIT: Final = 1.0
"""Seconds that a drain waits for attempts, before it cancels them after all."""


class Attempts:
    """The attempts of one pool, on its loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def make(self, *positional: Any, **arguments: Any) -> Any:
        """The driver's connect in a task; SQLAlchemy's dialect calls this in its place."""
        attempt = asyncio.create_task(
            self._target.profile.open(*positional, **arguments),
            name=f"connecting to {self._target.name}",
        )
        arguments.clear()  # the password among them: this frame may be in a traceback
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            self._abandoned.add(attempt)
            attempt.add_done_callback(partial(_end_what_came_late, self._target, self._abandoned))
            raise

    async def settle(self) -> None:
        """Wait for abandoned attempts, within a bound, so that nothing outlives the pool."""
        if self._abandoned:
            abandoned = set(self._abandoned)
            await asyncio.wait(abandoned, timeout=_SETTLING_LIMIT)
            for each in abandoned:
                each.cancel()
            await asyncio.wait(abandoned)


def _end_what_came_late(
    target: Target, abandoned: set[asyncio.Task[Any]], attempt: asyncio.Task[Any]
) -> None:
    abandoned.discard(attempt)
    if not attempt.cancelled() and attempt.exception() is None:
        target.profile.terminate(attempt.result())
