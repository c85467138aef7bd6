"""Connecting for the first time: what is tried again, how soon, and when to give up."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from itertools import count
from typing import Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.loop_pool import LoopPool

__all__ = ["backoff", "prove_it_answers", "select_one"]

_log = logging.getLogger("asgi_dbconn")

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 2.0
_JITTER: Final = 0.2


def backoff() -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling, capped, and never in step with others."""
    for attempt in count():
        delay = min(_FIRST_DELAY * 2.0**attempt, _LONGEST_DELAY)
        yield delay * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load


async def prove_it_answers(pool: LoopPool) -> None:
    """Open a connection and get one answer, trying again until ``startup_timeout`` has passed.

    Raises DatabaseUnavailable (or ConnectTimeout) with the number of attempts; at once for what
    another attempt would not change, as a wrong password or an unknown database.
    """
    target, clock = pool.target, pool.loop.time
    give_up_at = clock() + target.options.startup_timeout
    for attempt, delay in enumerate(backoff(), 1):
        try:
            await _ping(pool)
        except DatabaseUnavailable as error:
            permanent = error.__cause__ is not None and target.profile.is_permanent(error.__cause__)
            if permanent or clock() + delay > give_up_at:
                raise _given_up(error, attempt, permanent=permanent) from error.__cause__
            _log.warning("%s; attempt %d, next in %.1f s", error, attempt, delay)
        else:
            _log.debug("database %s answered at attempt %d", target, attempt)
            return
        await asyncio.sleep(delay)


def select_one(connection: Connection) -> None:
    """The cheapest statement that proves an answer."""
    connection.exec_driver_sql("SELECT 1")


async def _ping(pool: LoopPool) -> None:
    try:
        await pool.run(select_one, autocommit=True)
    except DBAPIError as error:
        # Connected, and then lost or refused: as good as unavailable.
        raise DatabaseUnavailable(
            f"Database {pool.target} accepted a connection but no statement: {error.orig}."
        ) from error.orig


def _given_up(error: DatabaseUnavailable, attempts: int, *, permanent: bool) -> DatabaseUnavailable:
    (reason,) = error.args
    times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    why = "trying again would not help" if permanent else "startup_timeout is over"
    return type(error)(f"{reason} Gave up after {times}: {why}.")
