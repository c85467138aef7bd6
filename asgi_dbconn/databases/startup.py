"""Connecting for the first time: what is tried again, how soon, and when to give up."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.backoff import backoff
from asgi_dbconn.pools.loop_pool import LoopPool

__all__ = ["prove_it_answers", "prove_it_answers_now", "select_one"]

_log = logging.getLogger("asgi_dbconn")

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 1.8


async def prove_it_answers(pool: LoopPool) -> None:
    """Open a connection and get one answer, trying again until ``startup_timeout`` has passed.

    Raises DatabaseUnavailable (or ConnectTimeout) with the number of attempts; immediately for what
    another attempt would not change, as a wrong password or an unknown database.
    """
    target, clock = pool.target, pool.loop.time
    give_up_at = clock() + target.options.startup_timeout
    for attempt, delay in enumerate(backoff(_FIRST_DELAY, _LONGEST_DELAY), 1):
        try:
            await _ping(pool)
        except DatabaseUnavailable as error:
            permanent = error.__cause__ is not None and target.profile.is_permanent(error.__cause__)
            pause = min(delay, give_up_at - clock())
            if permanent or pause <= 0:
                raise _given_up(error, attempt, permanent=permanent) from error.__cause__
            _log.warning("%s; attempt %d, next in %.1f s", error, attempt, pause)
        else:
            _log.debug("database %s answered at attempt %d", target, attempt)
            return
        await asyncio.sleep(pause)


async def prove_it_answers_now(pool: LoopPool) -> None:
    """Do the same with one attempt; what goes wrong is raised as it is."""
    await _ping(pool)


def select_one(connection: Connection) -> None:
    """Execute the cheapest statement that proves an answer."""
    connection.exec_driver_sql("SELECT 1")


async def _ping(pool: LoopPool) -> None:
    try:
        await pool.run(select_one, autocommit=True)
    except DBAPIError as error:
        # Connected, and then lost or refused: as good as unavailable.
        raise DatabaseUnavailable(
            f"Database {pool.target} accepted a connection but no statement: {error.orig}. "
            "Is it the right server, and is it ready?"
        ) from error.orig


def _given_up(error: DatabaseUnavailable, attempts: int, *, permanent: bool) -> DatabaseUnavailable:
    (reason,) = error.args
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    why = "trying again would not help" if permanent else "startup_timeout is over"
    last = _driver_error(error)
    named = "" if last is None else f" (the last one ended with {type(last).__name__})"
    return type(error)(f"{reason} Gave up after {times}{named}: {why}.")


def _driver_error(error: BaseException) -> BaseException | None:
    # Between ours and the driver's own stands SQLAlchemy's, which is called Error whatever it is.
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause
