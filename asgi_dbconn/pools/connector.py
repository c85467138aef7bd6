"""Opening one physical connection: the password, the time limit, the error that may be shown.

SQLAlchemy is given a URL without a password; it is put in here, at the last moment, and no frame
that knows it stays in a traceback. Error reporters print the local variables of such frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.util import await_only

from asgi_dbconn.errors import (
    ConfigurationError,
    ConnectTimeout,
    DatabaseUnavailable,
    DBConnError,
    PoolTimeout,
)
from asgi_dbconn.options import Password
from asgi_dbconn.pools.attempts import Attempts
from asgi_dbconn.pools.budget import Share
from asgi_dbconn.pools.connection_closer import Goodbyes
from asgi_dbconn.pools.events import Events
from asgi_dbconn.pools.gate import permit_of_acquire
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.retry import Recovery

__all__ = ["Opener", "drop_frames"]

_LEAST_TIME: Final = 0.01
"""Seconds below which no handshake is worth beginning."""


class Opener:
    """A ``do_connect`` hook. Runs inside SQLAlchemy's greenlet, on the loop of the acquire."""

    def __init__(self, target: Target, events: Events, goodbyes: Goodbyes) -> None:
        self._target = target
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._attempts = Attempts(target, goodbyes)
        self._recovery = Recovery(target.name, self._may_pass)

    async def settle(self) -> None:
        """Wait for attempts whose acquire went away; each ends within ``connect_timeout``."""
        await self._attempts.settle()

    def ended(self) -> None:
        """Give back what the connections had of the budget: none of them is open any more."""
        self._attempts.free_all()

    def __call__(
        self, dialect: Dialect, _: Any, positional: list[Any], arguments: dict[str, Any]
    ) -> Any:
        permit = permit_of_acquire.get()
        if permit is not None:
            deadline = permit.deadline
        else:  # not for an acquire: SQLAlchemy was asked for a bare connection
            deadline = self._loop.time() + self._target.options.connect_timeout
        attempt = partial(self._attempt, dialect, positional, arguments, deadline)
        return self._recovery.connect(attempt, deadline - _LEAST_TIME)

    def _attempt(
        self, dialect: Dialect, positional: list[Any], arguments: dict[str, Any], deadline: float
    ) -> Any:
        share = self._share(deadline)
        now = self._loop.time()
        timeout = min(self._target.options.connect_timeout, deadline - now)
        try:
            if timeout < _LEAST_TIME:
                raise self._too_late(timeout)  # sparing the server what nobody waits for
            connect = partial(self._attempts.make, share)
            connection = _open(dialect, self._target, positional, arguments, timeout, connect)
        except Exception as error:
            drop_frames(error)
            failure = self._failure(error, timeout)
            self._events.failed_to_open(failure)
            cause = None if failure is error else error
        else:
            self._events.opened(self._loop.time() - now)
            return connection
        finally:
            if not share.is_used:
                share.free()
        raise failure from cause

    def _share(self, deadline: float) -> Share:
        try:
            return await_only(self._target.budget.take(self._target.name, deadline))
        except PoolTimeout:
            self._events.timed_out(self._target.options.acquire_timeout)
            raise

    def _may_pass(self, failure: DatabaseUnavailable) -> bool:
        """Return whether an acquire goes on trying: this pool was connected, so the server exists.

        Not after a timeout: that was long enough for the caller.
        """
        cause = failure.__cause__
        return (
            self._events.counters.connects > 0
            and not isinstance(failure, TimeoutError)
            and cause is not None
            and not self._target.profile.is_permanent(cause)
        )

    def _too_late(self, timeout: float) -> ConnectTimeout:
        return ConnectTimeout(
            f"Database {self._target} did not accept a connection within {max(timeout, 0):.2f} s "
            "(connect_timeout, or what was left of acquire_timeout). "
            "Is the host reachable, and the server not overloaded?"
        )

    def _failure(self, error: Exception, timeout: float) -> DBConnError:
        if isinstance(error, DBConnError):
            return error
        if isinstance(error, TimeoutError):
            return self._too_late(timeout)
        reason = str(error).strip() or type(error).__name__
        if isinstance(error, TypeError):
            return ConfigurationError(
                f"The driver of database {self._target} does not take what it was given: {reason}. "
                "Look at what follows the ? in the URL, and at connect_args."
            )
        return DatabaseUnavailable(
            f"Database {self._target} gave no connection: {reason}. "
            f"{self._target.profile.remedy(error)}"
        )


def drop_frames(error: BaseException) -> None:
    """Forget where ``error``, and all that led to it, came from; the errors themselves stay."""
    pending, seen = [error], set[int]()
    while pending:
        exception = pending.pop()
        if id(exception) in seen:
            continue
        seen.add(id(exception))
        exception.__traceback__ = None
        pending += [
            other for other in (exception.__cause__, exception.__context__) if other is not None
        ]
        if isinstance(exception, BaseExceptionGroup):
            pending += exception.exceptions


def _open(
    dialect: Dialect,
    target: Target,
    positional: list[Any],
    arguments: dict[str, Any],
    timeout: float,
    connect: Callable[..., Awaitable[Any]],
) -> Any:
    arguments = {
        **arguments,
        **target.profile.connect_args(timeout, target.options),
        **target.options.connect_args,
    }
    arguments["async_creator_fn"] = connect
    password = _password(target)
    if password is not None:
        arguments["password"] = password
    return dialect.connect(*positional, **arguments)


def _password(target: Target) -> str | None:
    source: Password | Awaitable[Any] | None = target.options.password
    if source is None:
        return make_url(target.address.reveal()).password if target.address.has_password else None
    if callable(source):
        source = source()
    if isawaitable(source):
        source = await_only(source)
    return source.get_secret_value() if isinstance(source, SecretStr) else str(source)
