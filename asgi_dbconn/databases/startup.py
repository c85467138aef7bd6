"""The first connect of a database: verified by a query, with retries until ``startup_timeout``.

An optional database that does not answer is connected later, in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.retry import backoff

__all__ = ["BackgroundConnect", "select_one", "verify_once", "verify_with_retries"]

_log = logging.getLogger("asgi_dbconn")


_FIRST_DELAY: Final = 0.1
_MAX_DELAY: Final = 2.0


async def verify_with_retries(pool: LoopPool) -> None:
    """Open a connection and get one answer; retry until ``startup_timeout`` has passed.

    Raises DatabaseUnavailable (or ConnectTimeout) with the number of attempts. It does so
    immediately for an error that another attempt would not change, as a wrong password or an
    unknown database.
    """
    config, clock = pool.config, pool.loop.time
    deadline = clock() + config.options.startup_timeout
    for attempt, delay in enumerate(backoff(_FIRST_DELAY, _MAX_DELAY), 1):
        try:
            await _ping(pool)
        except DatabaseUnavailable as error:
            permanent = error.__cause__ is not None and config.profile.is_permanent(error.__cause__)
            pause = min(delay, deadline - clock())
            if permanent or pause <= 0:
                raise _final_error(error, attempt, permanent=permanent) from error.__cause__
            _log.warning("%s; attempt %d, next in %.1f s", error, attempt, pause)
        else:
            _log.debug("database %s answered at attempt %d", config, attempt)
            return
        await asyncio.sleep(pause)


async def verify_once(pool: LoopPool) -> None:
    """Open a connection and get one answer, in one attempt. Raises its error unchanged."""
    await _ping(pool)


def select_one(connection: Connection) -> None:
    """Execute the cheapest statement that gets an answer."""
    connection.exec_driver_sql("SELECT 1")


async def _ping(pool: LoopPool) -> None:
    try:
        await pool.run(select_one, autocommit=True)
    except DBAPIError as error:
        # Connected, and then lost or refused: the same as unavailable.
        raise DatabaseUnavailable(
            f"Database {pool.config} accepted a connection but no statement: {error.orig}. "
            "Is it the right server, and is it ready?"
        ) from error.orig


def _final_error(
    error: DatabaseUnavailable, attempts: int, *, permanent: bool
) -> DatabaseUnavailable:
    (reason,) = error.args
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    why = "trying again would not help" if permanent else "startup_timeout is over"
    last = _driver_error(error)
    named = "" if last is None else f" (the last one ended with {type(last).__name__})"
    return type(error)(f"{reason} Gave up after {times}{named}: {why}.")


def _driver_error(error: BaseException) -> BaseException | None:
    # Between ours and the driver's is SQLAlchemy's, which is called Error for any cause.
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


_STOP_TIMEOUT: Final = 2.0


class BackgroundConnect:
    """The retries of an optional database, until it answers, is disconnected, or its loop ends.

    Meanwhile queries fail immediately, and do not try to connect for themselves.
    """

    def __init__(
        self,
        config: PoolConfig,
        failure: DatabaseUnavailable,
        join: Callable[[], Awaitable[object]],
    ) -> None:
        self._config = config
        self._failure = failure
        self._join = join
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(
            self._keep_trying(), name=f"waiting for {config.name} to answer"
        )
        self._ended: Future[None] = Future()
        self._task.add_done_callback(lambda _: self._ended.set_result(None))
        _log.warning("%s It is optional: going on without it, and trying again.", failure)

    @property
    def is_pending(self) -> bool:
        """True if a task is still trying; for any thread."""
        return not self._task.done() and not self._loop.is_closed()

    def error(self) -> DatabaseUnavailable:
        """Return the error for a query now; a new one for each query."""
        (reason,) = self._failure.args
        error = DatabaseUnavailable(
            f"{reason} It is optional, has not answered since it was connected, and is asked "
            f"again at least every {_MAX_DELAY:.0f} s."
        )
        error.__cause__ = self._failure.__cause__
        return error

    async def stop(self) -> None:
        """Stop trying. From any loop; an attempt under way is waited for, within a bound."""
        with suppress(RuntimeError, TimeoutError):  # its loop is closed, or does not run
            self._loop.call_soon_threadsafe(self._task.cancel)
            async with asyncio.timeout(_STOP_TIMEOUT):
                await asyncio.shield(asyncio.wrap_future(self._ended))

    async def _keep_trying(self) -> None:
        for delay in backoff(_FIRST_DELAY, _MAX_DELAY):
            await asyncio.sleep(delay)
            try:
                await self._join()
            except DatabaseUnavailable as failure:
                self._failure = failure
                _log.debug("%s", failure)
            else:
                _log.warning("database %s answers now, and has joined", self._config)
                return
