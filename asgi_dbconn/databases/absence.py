"""An optional database that did not answer when it was connected, and joins when it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.backoff import backoff
from asgi_dbconn.pools.pool_config import Target

__all__ = ["Absence"]

_log = logging.getLogger("asgi_dbconn")

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 2.0
_END_LIMIT: Final = 2.0


class Absence:
    """An absence until the database answers, is disconnected, or the loop that connected it ends.

    While it lasts, queries fail immediately instead of each finding out for itself.
    """

    def __init__(
        self, target: Target, failure: DatabaseUnavailable, join: Callable[[], Awaitable[object]]
    ) -> None:
        self._target = target
        self._failure = failure
        self._join = join
        self._loop = asyncio.get_running_loop()
        self._trying = asyncio.create_task(
            self._keep_trying(), name=f"waiting for {target.name} to answer"
        )
        self._ended: Future[None] = Future()
        self._trying.add_done_callback(lambda _: self._ended.set_result(None))
        _log.warning("%s It is optional: going on without it, and trying again.", failure)

    @property
    def lasts(self) -> bool:
        """True if a task is still trying; for any thread."""
        return not self._trying.done() and not self._loop.is_closed()

    def error(self) -> DatabaseUnavailable:
        """Return the error for a query of this moment; a new one for each."""
        (reason,) = self._failure.args
        error = DatabaseUnavailable(
            f"{reason} It is optional, has not answered since it was connected, and is asked "
            f"again at least every {_LONGEST_DELAY:.0f} s."
        )
        error.__cause__ = self._failure.__cause__
        return error

    async def end(self) -> None:
        """Stop trying. From any loop; an attempt under way is waited for, within a bound."""
        with suppress(RuntimeError, TimeoutError):  # its loop is closed, or does not run
            self._loop.call_soon_threadsafe(self._trying.cancel)
            async with asyncio.timeout(_END_LIMIT):
                await asyncio.shield(asyncio.wrap_future(self._ended))

    async def _keep_trying(self) -> None:
        for delay in backoff(_FIRST_DELAY, _LONGEST_DELAY):
            await asyncio.sleep(delay)
            try:
                await self._join()
            except DatabaseUnavailable as failure:
                self._failure = failure
                _log.debug("%s", failure)
            else:
                _log.warning("database %s answers now, and has joined", self._target)
                return
