"""Open one physical connection: password, time limit, and errors that show no secret.

SQLAlchemy gets a URL without a password. It is added here, at the last moment, and no frame that
has it stays in a traceback: error reporters print the local variables of frames.

An attempt runs in a task of its own. If its acquire is cancelled, the attempt goes on, and a
connection that succeeds then is closed in the background.
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
from asgi_dbconn.pools.budget import Slot
from asgi_dbconn.pools.connection_closer import ConnectionCloser
from asgi_dbconn.pools.gate import permit_of_acquire
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.retry import SharedRetry

__all__ = ["ConnectAttempts", "Connector", "drop_frames"]


_WAIT_LIMIT: Final = 0.1
"""Seconds that a drain waits for attempts, before it cancels them after all."""


class ConnectAttempts:
    """The attempts of one pool, on its loop."""

    def __init__(self, config: PoolConfig, closer: ConnectionCloser) -> None:
        self._config = config
        self._closer = closer
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._slots: set[Slot] = set()

    async def start(self, slot: Slot, *positional: Any, **arguments: Any) -> Any:
        """Run the driver's connect in a task; SQLAlchemy's dialect calls this instead of it.

        ``slot`` is released when the connection has ended, or could not be opened.
        """
        attempt = asyncio.create_task(
            self._open(slot, positional, arguments), name=f"connecting to {self._config.name}"
        )
        # Not in the task itself: one that is cancelled before its first step never runs.
        attempt.add_done_callback(partial(self._note_done, slot))
        slot.is_used = True
        self._slots.add(slot)
        permit = permit_of_acquire.get()
        try:
            connection = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            cleanup = self._abandon(attempt)
            if permit is not None:
                permit.cleanup = cleanup
            raise
        else:
            if permit is not None:
                permit.connection = connection
            return connection
        finally:
            arguments.clear()  # the password among them: this frame may be in a traceback

    async def wait_done(self) -> None:
        """Wait for abandoned attempts, within a bound, so that nothing outlives the pool."""
        if self._abandoned:
            abandoned = set(self._abandoned)
            await asyncio.wait(abandoned, timeout=_WAIT_LIMIT)
            for attempt in abandoned:
                attempt.cancel()
            await asyncio.wait(abandoned)

    def release_all(self) -> None:
        """Release the slots of all connections; none of them is open any more."""
        while self._slots:
            self._slots.pop().release()

    async def _open(
        self, slot: Slot, positional: tuple[Any, ...], arguments: dict[str, Any]
    ) -> Any:
        profile = self._config.profile
        connection = await profile.open(self._config.options, *positional, **arguments)
        profile.on_closed(connection, partial(self._release, slot))
        if asyncio.current_task() in self._abandoned:
            task = self._closer.close_in_background(connection)
            if task is not None:
                await asyncio.wait({task})
        return connection

    def _abandon(self, attempt: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
        """Let ``attempt`` go on alone; return the task that still runs, if any."""
        if not attempt.done():
            self._abandoned.add(attempt)
            return attempt
        if attempt.cancelled() or attempt.exception() is not None:
            return None
        # It succeeded at this very moment.
        return self._closer.close_in_background(attempt.result())

    def _note_done(self, slot: Slot, attempt: asyncio.Task[Any]) -> None:
        self._abandoned.discard(attempt)
        # This retrieves the error, too: it may be that no task waits for it.
        if attempt.cancelled() or attempt.exception() is not None:
            self._release(slot)

    def _release(self, slot: Slot, *_: object) -> None:
        self._slots.discard(slot)
        slot.release()


_LEAST_TIME: Final = 0.01
"""Seconds below which no handshake is worth beginning."""


class Connector:
    """A ``do_connect`` hook. Runs inside SQLAlchemy's greenlet, on the loop of the acquire."""

    def __init__(self, config: PoolConfig, events: Events, closer: ConnectionCloser) -> None:
        self._config = config
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._attempts = ConnectAttempts(config, closer)
        self._retry = SharedRetry(config.name, self._is_transient_error)

    async def wait_done(self) -> None:
        """Wait for attempts whose acquire went away; each ends within ``connect_timeout``."""
        await self._attempts.wait_done()

    def note_closed(self) -> None:
        """Release the slots of all connections: none of them is open any more."""
        self._attempts.release_all()

    def __call__(
        self, dialect: Dialect, _: Any, positional: list[Any], arguments: dict[str, Any]
    ) -> Any:
        permit = permit_of_acquire.get()
        if permit is not None:
            deadline = permit.deadline
        else:  # not for an acquire: SQLAlchemy was asked for a bare connection
            deadline = self._loop.time() + self._config.options.connect_timeout
        attempt = partial(self._attempt, dialect, positional, arguments, deadline)
        return self._retry.connect(attempt, deadline - _LEAST_TIME)

    def _attempt(
        self, dialect: Dialect, positional: list[Any], arguments: dict[str, Any], deadline: float
    ) -> Any:
        slot = self._acquire_slot(deadline)
        now = self._loop.time()
        timeout = min(self._config.options.connect_timeout, deadline - now)
        try:
            if timeout < _LEAST_TIME:
                raise self._timeout_error(timeout)  # no caller would wait for the answer
            connect = partial(self._attempts.start, slot)
            connection = _open(dialect, self._config, positional, arguments, timeout, connect)
        except Exception as error:
            drop_frames(error)
            failure = self._failure(error, timeout)
            self._events.note_connect_failed(failure)
            cause = None if failure is error else error
        else:
            self._events.note_opened(self._loop.time() - now)
            return connection
        finally:
            if not slot.is_used:
                slot.release()
        raise failure from cause

    def _acquire_slot(self, deadline: float) -> Slot:
        try:
            return await_only(self._config.budget.acquire(self._config.name, deadline))
        except PoolTimeout:
            self._events.note_timeout(self._config.options.acquire_timeout)
            raise

    def _is_transient_error(self, failure: DatabaseUnavailable) -> bool:
        """Return whether an acquire tries again: this pool was connected, so the server exists.

        Not after a timeout: that was long enough for the caller.
        """
        cause = failure.__cause__
        return (
            self._events.counters.connects > 0
            and not isinstance(failure, TimeoutError)
            and cause is not None
            and not self._config.profile.is_permanent(cause)
        )

    def _timeout_error(self, timeout: float) -> ConnectTimeout:
        return ConnectTimeout(
            f"Database {self._config} did not accept a connection within {max(timeout, 0):.2f} s "
            "(connect_timeout, or what was left of acquire_timeout). "
            "Is the host reachable, and the server not overloaded?"
        )

    def _failure(self, error: Exception, timeout: float) -> DBConnError:
        if isinstance(error, DBConnError):
            return error
        if isinstance(error, TimeoutError):
            return self._timeout_error(timeout)
        reason = str(error).strip() or type(error).__name__
        if isinstance(error, TypeError):
            return ConfigurationError(
                f"The driver of database {self._config} does not accept an argument: {reason}. "
                "Look at what follows the ? in the URL, and at connect_args."
            )
        return DatabaseUnavailable(
            f"Database {self._config} gave no connection: {reason}. "
            f"{self._config.profile.remedy(error)}"
        )


def drop_frames(error: BaseException) -> None:
    """Remove the tracebacks of ``error`` and of its causes; the errors themselves stay."""
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
    config: PoolConfig,
    positional: list[Any],
    arguments: dict[str, Any],
    timeout: float,
    connect: Callable[..., Awaitable[Any]],
) -> Any:
    arguments = {
        **arguments,
        **config.profile.connect_args(timeout, config.options),
        **config.options.connect_args,
    }
    arguments["async_creator_fn"] = connect
    password = _password(config)
    if password is not None:
        arguments["password"] = password
    return dialect.connect(*positional, **arguments)


def _password(config: PoolConfig) -> str | None:
    source: Password | Awaitable[Any] | None = config.options.password
    if source is None:
        return make_url(config.address.reveal()).password if config.address.has_password else None
    if callable(source):
        source = source()
    if isawaitable(source):
        source = await_only(source)
    return source.get_secret_value() if isinstance(source, SecretStr) else str(source)
