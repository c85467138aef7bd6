"""The options of a database: checked when they are created, immutable afterwards."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, Literal, TypedDict

from pydantic import SecretStr

from asgi_dbconn.errors import ConfigurationError

__all__ = ["DatabaseOptions", "OptionArguments", "Password", "hide_password"]

Password = str | SecretStr | Callable[[], str | SecretStr | Awaitable[str | SecretStr]]
"""A password, or a function (sync or async) that returns one, called for each new connection."""


class OptionArguments(TypedDict, total=False):
    """The options as keyword arguments of ``Registry(...)`` and ``Database(...)``."""

    pool_size: int
    acquire_timeout: float
    query_timeout: float | None
    max_waiting: int | None
    connect_timeout: float
    startup_timeout: float
    shutdown_timeout: float
    max_lifetime: float
    idle_check_after: float
    leak_after: float | None
    max_connections: int | None
    reset: Literal["rollback", "full"]
    pgbouncer: bool
    optional: bool
    password: Password | None
    echo: bool | Literal["debug"]
    connect_args: Mapping[str, Any]
    engine_options: Mapping[str, Any]


# Reserved for us: they would disable the gate, the credentials, or documented behaviour.
_RESERVED_ENGINE_OPTIONS: Final = {
    "pool_size": "use the option pool_size",
    "max_overflow": "the pool has a fixed size; use the option pool_size",
    "pool_timeout": "use the option acquire_timeout",
    "poolclass": "the pool is ours; it is what keeps the deadlines",
    "pool": "the pool is ours; it is what keeps the deadlines",
    "creator": "use the option connect_args or password",
    "async_creator": "use the option connect_args or password",
    "connect_args": "use the option connect_args",
    "echo": "use the option echo",
    "isolation_level": "use models.transaction(isolation_level=...)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """Options of a database. Times are in seconds.

    A wrong value raises :class:`~asgi_dbconn.errors.ConfigurationError` here, before any I/O.
    """

    pool_size: int = 10
    """Connections per event loop: fixed, no overflow, opened when first needed."""
    acquire_timeout: float = 5.0
    """Deadline of a whole acquire: the wait in the queue, the liveness check, the connect."""
    query_timeout: float | None = None
    """Limit of each statement. The server is asked to cancel it, and outside of blocks its
    connection is closed. None is unlimited."""
    max_waiting: int | None = None
    """The number of acquires that may wait; one more is refused immediately. None is unlimited."""
    connect_timeout: float = 5.0
    """Limit of each single attempt to open a connection."""
    startup_timeout: float = 10.0
    """The time for which ``connect()`` retries after transient errors; 0 is one attempt."""
    shutdown_timeout: float = 10.0
    """The time for which the last ``disconnect()`` waits for queries before it cancels them."""
    max_lifetime: float = 1800.0
    """Age at which a connection is replaced, or up to a fifth earlier."""
    idle_check_after: float = 0.5
    """Idle time after which a connection has a liveness check before it is used again."""
    leak_after: float | None = None
    """Holding a connection for longer is logged, with the lines that acquired it. None is never."""
    max_connections: int | None = None
    """Connections of all event loops of the process together. None is ``pool_size`` for each."""
    reset: Literal["rollback", "full"] = "rollback"
    """The reset of a connection that is released; ``"full"`` also resets session state
    (``SET``, advisory locks, temporary tables), for one more round trip. PostgreSQL only."""
    pgbouncer: bool = False
    """For PgBouncer in transaction mode: no named prepared statements, no session settings."""
    optional: bool = False
    """True if the application starts without this database; it is connected once it answers."""
    password: Password | None = field(default=None, repr=False)
    """The password, instead of the one in the URL."""
    echo: bool | Literal["debug"] = False
    """Log every statement, without its parameters; ``"debug"`` logs parameters and rows too."""
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Arguments for the driver's own connect function."""
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for ``create_async_engine``, without those that are reserved for us."""

    def __post_init__(self) -> None:
        _check_count("pool_size", self.pool_size)
        for name in ("max_waiting", "max_connections"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        for name in ("acquire_timeout", "connect_timeout", "max_lifetime"):
            _check_seconds(name, getattr(self, name), zero=False)
        for name in ("query_timeout", "leak_after"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), zero=False)
        for name in ("startup_timeout", "shutdown_timeout", "idle_check_after"):
            _check_seconds(name, getattr(self, name), zero=True)
        if self.reset not in ("rollback", "full"):
            raise ConfigurationError(f"reset is 'rollback' or 'full', not {self.reset!r}.")
        for name in ("pgbouncer", "optional"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} is True or False, not {getattr(self, name)!r}.")
        if self.echo not in (True, False, "debug"):
            raise ConfigurationError(f"echo is True, False or 'debug', not {self.echo!r}.")
        password = self.password
        if not (password is None or isinstance(password, SecretStr) or callable(password)):
            raise ConfigurationError(
                "password is a str, a SecretStr, or a function that returns one (it may be async)."
            )
        for name in ("connect_args", "engine_options"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigurationError(f"{name} is a mapping of names to values.")
        for name in self.engine_options.keys() & _RESERVED_ENGINE_OPTIONS.keys():
            raise ConfigurationError(
                f"engine_options must not contain {name!r}: {_RESERVED_ENGINE_OPTIONS[name]}."
            )

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> DatabaseOptions:
        """Build the options. Raises ConfigurationError for an unknown name, with the likely one."""
        known = [option.name for option in fields(cls)]
        for name in arguments:
            if name not in known:
                meant = get_close_matches(name, known, 1)
                hint = f"Did you mean {meant[0]!r}? " if meant else ""
                raise ConfigurationError(
                    f"There is no database option {name!r}. {hint}Options are: {', '.join(known)}."
                )
        return cls(**arguments)


def hide_password(arguments: OptionArguments) -> OptionArguments:
    """Return the same arguments, with a plain password wrapped so that it is never printed."""
    password = arguments.get("password")
    if isinstance(password, str):
        arguments["password"] = SecretStr(password)
    del password
    return arguments


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} is a whole number of at least 1, not {value!r}.")


def _check_seconds(name: str, value: object, *, zero: bool) -> None:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not math.isfinite(value) or value < 0 or (value == 0 and not zero):  # type: ignore[arg-type,operator]
        least = "0 or more" if zero else "more than 0"
        raise ConfigurationError(f"{name} is a number of seconds, {least}, not {value!r}.")
