"""Opening one physical connection: the password, the time limit, the error that may be shown.

SQLAlchemy is given a URL without a password; it is put in here, at the last moment, and no frame
that knows it stays in a traceback. Error reporters print the local variables of such frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.util import await_only

from asgi_dbconn.errors import ConfigurationError, ConnectTimeout, DatabaseUnavailable, DBConnError
from asgi_dbconn.options import Password
from asgi_dbconn.pools.attempts import Attempts
from asgi_dbconn.pools.gated import acquire_deadline
from asgi_dbconn.pools.statistics import Counters
from asgi_dbconn.pools.target import Target

__all__ = ["Opener", "drop_frames"]

_LEAST_TIME: Final = 0.01
"""Seconds below which no handshake is worth beginning."""


class Opener:
    """A ``do_connect`` hook. Runs inside SQLAlchemy's greenlet, on the loop of the acquire."""

    def __init__(self, target: Target, counters: Counters) -> None:
        self._target = target
        self._counters = counters
        self._attempts = Attempts(target)

    async def settle(self) -> None:
        """Wait for attempts whose acquire went away; each ends within ``connect_timeout``."""
        await self._attempts.settle()

    def __call__(
        self, dialect: Dialect, _: Any, positional: list[Any], arguments: dict[str, Any]
    ) -> Any:
        timeout = self._remaining()
        if timeout < _LEAST_TIME:
            raise self._too_late(timeout)  # sparing the server an attempt that nobody waits for
        try:
            return _open(dialect, self._target, positional, arguments, timeout, self._attempts.make)
        except Exception as error:
            self._counters.connect_errors += 1
            drop_frames(error)
            failure = self._failure(error, timeout)
            cause = None if failure is error else error
        raise failure from cause

    def _remaining(self) -> float:
        """Seconds left for this attempt: the acquire's deadline counts, too."""
        limit = self._target.options.connect_timeout
        deadline = acquire_deadline.get()
        if deadline is None:
            return limit
        return min(limit, deadline - asyncio.get_running_loop().time())

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
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        pending += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions


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
        **target.profile.connect_args(timeout, pgbouncer=target.options.pgbouncer),
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
