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
from asgi_dbconn.pools.budget import Share
from asgi_dbconn.pools.connection_closer import Goodbyes
from asgi_dbconn.pools.gate import permit_of_acquire
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.retry import Recovery

__all__ = ["Attempts", "Opener", "drop_frames"]


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
