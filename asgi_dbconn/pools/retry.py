"""Retries with backoff, shared by the acquires of a pool while its server restarts.

A pool that has been connected before does not fail immediately if the server refuses connections.
Its acquires wait until their deadline, and meanwhile one of them tries, with growing pauses: a
server that comes up again does not meet a thundering herd.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from sqlalchemy.util import await_only

from asgi_dbconn.errors import DatabaseUnavailable

__all__ = ["SharedRetry", "backoff"]

_log = logging.getLogger("asgi_dbconn")


_JITTER: Final = 0.2


def backoff(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds before each next attempt: doubling, capped, with jitter."""
    for attempt in count():
        delay = min(first * 2.0**attempt, longest)
        yield delay * random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads load


_FIRST_PAUSE: Final = 0.05
_MAX_PAUSE: Final = 0.5


class SharedRetry:
    """The retries of one pool; lives as long as it, on its loop."""

    def __init__(
        self, database: str, is_transient_error: Callable[[DatabaseUnavailable], bool]
    ) -> None:
        self._database = database
        self._is_transient_error = is_transient_error
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._failure: DatabaseUnavailable | None = None
        self._pauses: Iterator[float] = iter(())
        self._next_at = 0.0
        self._began_at = 0.0

    def connect(self, attempt: Callable[[], Any], deadline: float) -> Any:
        """Return what ``attempt`` returns, now or in a later try, until ``deadline``.

        Inside SQLAlchemy's greenlet; the deadline is on the clock of the loop. Raises the last
        DatabaseUnavailable at the deadline, and immediately an error that is not transient.
        """
        while True:
            failure = self._failure
            if failure is not None:
                await_only(self._wait_for_attempt(deadline, failure))
            try:
                if failure is not None and self._failure is None:
                    continue  # the attempt of another task succeeded
                connection = attempt()
            except DatabaseUnavailable as error:
                if not self._is_transient_error(error):
                    self._failure = None
                    raise
                self._note(error)
            else:
                self._forget()
                return connection
            finally:
                if failure is not None:
                    self._lock.release()

    async def _wait_for_attempt(self, deadline: float, failure: DatabaseUnavailable) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._lock.acquire()
                try:
                    if self._failure is not None:
                        await asyncio.sleep(self._next_at - self._loop.time())
                except BaseException:
                    self._lock.release()
                    raise
        except TimeoutError:
            (reason,) = failure.args
            # A copy for each: one exception raised in several tasks mixes up their tracebacks.
            raise DatabaseUnavailable(
                f"{reason} That has been so for {self._loop.time() - self._began_at:.1f} s; gave "
                "up trying again at the end of acquire_timeout."
            ) from failure.__cause__

    def _note(self, failure: DatabaseUnavailable) -> None:
        if self._failure is None:
            _log.warning("%s Trying again.", failure)
            self._began_at = self._loop.time()
            self._pauses = backoff(_FIRST_PAUSE, _MAX_PAUSE)
        self._failure = failure
        self._next_at = self._loop.time() + next(self._pauses)

    def _forget(self) -> None:
        if self._failure is not None:
            self._failure = None
            down = self._loop.time() - self._began_at
            _log.warning("database %r takes connections again, after %.1f s", self._database, down)
