"""Physical connects under way, each in a task of its own that no cancellation interrupts.

An acquire that is cancelled, or runs out of time, goes away; its attempt is left to finish, and
closed. A driver that is cancelled in the middle of a handshake leaves sockets and unread errors
behind. The driver's own limit, ``connect_timeout``, ends every attempt.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from asgi_dbconn.pools.budget import Share
from asgi_dbconn.pools.connection_closer import Goodbyes
from asgi_dbconn.pools.gate import permit_of_acquire
from asgi_dbconn.pools.pool_config import Target

__all__ = ["Attempts"]

_SETTLING_LIMIT: Final = 0.1
"""Seconds that a drain waits for attempts, before it cancels them after all."""


class Attempts:
    """The attempts of one pool, on its loop."""

    def __init__(self, target: Target, goodbyes: Goodbyes) -> None:
        self._target = target
        self._goodbyes = goodbyes
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._shares: set[Share] = set()

    async def make(self, share: Share, *positional: Any, **arguments: Any) -> Any:
        """Do the driver's connect in a task; SQLAlchemy's dialect calls this in its place.

        ``share`` is given back when the connection has ended, or has not come about.
        """
        attempt = asyncio.create_task(
            self._open(share, positional, arguments), name=f"connecting to {self._target.name}"
        )
        # Not in the task itself: one that is cancelled before its first step never runs.
        attempt.add_done_callback(partial(self._ended, share))
        share.is_used = True
        self._shares.add(share)
        permit = permit_of_acquire.get()
        try:
            connection = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            aftermath = self._abandon(attempt)
            if permit is not None:
                permit.aftermath = aftermath
            raise
        else:
            if permit is not None:
                permit.connection = connection
            return connection
        finally:
            arguments.clear()  # the password among them: this frame may be in a traceback

    async def settle(self) -> None:
        """Wait for abandoned attempts, within a bound, so that nothing outlives the pool."""
        if self._abandoned:
            abandoned = set(self._abandoned)
            await asyncio.wait(abandoned, timeout=_SETTLING_LIMIT)
            for attempt in abandoned:
                attempt.cancel()
            await asyncio.wait(abandoned)

    def free_all(self) -> None:
        """Give back what the connections had of the budget; none of them is open any more."""
        while self._shares:
            self._shares.pop().free()

    async def _open(
        self, share: Share, positional: tuple[Any, ...], arguments: dict[str, Any]
    ) -> Any:
        profile = self._target.profile
        connection = await profile.open(self._target.options, *positional, **arguments)
        profile.when_ended(connection, partial(self._free, share))
        if asyncio.current_task() in self._abandoned:
            goodbye = self._goodbyes.say(connection)
            if goodbye is not None:
                await asyncio.wait({goodbye})
        return connection

    def _abandon(self, attempt: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
        """Leave ``attempt`` to itself; return what still goes on."""
        if not attempt.done():
            self._abandoned.add(attempt)
            return attempt
        if attempt.cancelled() or attempt.exception() is not None:
            return None
        return self._goodbyes.say(attempt.result())  # it succeeded at this very moment

    def _ended(self, share: Share, attempt: asyncio.Task[Any]) -> None:
        self._abandoned.discard(attempt)
        # To ask is to have looked at the error, which may be nobody else's.
        if attempt.cancelled() or attempt.exception() is not None:
            self._free(share)

    def _free(self, share: Share, *_: object) -> None:
        self._shares.discard(share)
        share.free()
