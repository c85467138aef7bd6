"""Retries of a transaction that lost against another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError

from asgi_dbconn.databases.driver_errors import driver_error, is_conflict
from asgi_dbconn.databases.transactions import Transaction
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.pools.backoff import backoff

__all__ = ["retry_transaction"]

T = TypeVar("T")
_log = logging.getLogger("asgi_dbconn")

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0


async def retry_transaction(
    begin: Callable[[], AbstractAsyncContextManager[Transaction]],
    function: Callable[[], Awaitable[T]],
    retries: int,
) -> T:
    """Run ``function`` in a transaction of ``begin``; return its result once that is committed.

    After a conflict with another transaction it is run at most ``retries`` more times, with
    growing pauses. Any other error is raised immediately.
    """
    if type(retries) is not int or retries < 0:
        raise ConfigurationError(f"retries is a whole number of 0 or more, not {retries!r}.")
    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while True:
        committed: list[bool] = []
        try:
            async with begin() as transaction:
                # The first callback: what fails after it is another one, and no reason to repeat.
                transaction.on_commit(partial(committed.append, True))
                result = await function()
        except DBAPIError as error:
            if committed or retries == 0 or not is_conflict(error):
                raise
            _log.debug("a transaction is run again after %r", driver_error(error))
        else:
            return result
        retries -= 1
        # Without a connection: whoever won may need it to go on.
        await asyncio.sleep(next(pauses))
