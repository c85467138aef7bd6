"""The interface between a pool and its driver: facts, execution options, and actions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.options import DatabaseOptions

__all__ = ["AUTOCOMMIT", "READONLY", "WRITES", "DialectProfile"]

AUTOCOMMIT: Final = "asgi_dbconn_autocommit"
READONLY: Final = "asgi_dbconn_readonly"
WRITES: Final = "asgi_dbconn_writes"
"""Execution options of our own for profiles whose transactions we begin ourselves.

They choose between no BEGIN, one that cannot write, and one that takes the write lock first. Where
the driver begins transactions, SQLAlchemy's options say the same, and these are not set.
"""


class DialectProfile(Protocol):
    """Facts and actions that differ between databases; without state, shared by all pools."""

    has_autocommit: bool
    """True if an adapted connection has ``begin_autocommit()``, which sends nothing."""

    autocommit_options: Mapping[str, Any]
    """Execution options that commit statements one by one, where there is no such method."""

    driver_errors: tuple[type[Exception], ...]
    """The errors that the driver raises by itself, below SQLAlchemy's adapted connection."""

    buffers_rows: bool
    """True if a cursor has all rows in memory once it has executed, and nothing to be closed.

    The fast path of the ORM reads such a cursor without a Result of SQLAlchemy's.
    """

    can_be_lost: bool
    """True if a network, or a server of its own life, lies between us and the database."""

    def connect_args(self, timeout: float, options: DatabaseOptions) -> dict[str, Any]:
        """Return arguments for the driver's connect function, bounded to ``timeout`` seconds."""
        ...

    def open(
        self, options: DatabaseOptions, *positional: Any, **arguments: Any
    ) -> Coroutine[Any, Any, Any]:
        """Open a connection by the driver's own connect function."""
        ...

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        """Attach the listeners by which each new connection and transaction behaves as promised."""
        ...

    def transaction_options(self, *, readonly: bool) -> Mapping[str, Any]:
        """Return execution options for a connection that begins a ``transaction()``."""
        ...

    def is_permanent(self, error: BaseException) -> bool:
        """Return whether connecting again would fail in the same way."""
        ...

    def remedy(self, error: BaseException) -> str:
        """Return a hint for the user, as a question, when connecting failed with ``error``."""
        ...

    def is_conflict(self, error: BaseException) -> bool:
        """Return whether ``error`` of the driver ended a transaction in favour of another one.

        The same transaction may well succeed if it is run once more as a whole.
        """
        ...

    def is_read_only_server(self, error: BaseException, options: Mapping[str, Any]) -> bool:
        """Return whether ``error`` of the driver says that its server has become a standby.

        Such a server answers pings, and refuses every write. ``options`` are the execution options
        of the connection: a transaction that was meant to be read-only proves nothing.
        """
        ...

    def is_stale_plan(self, error: DBAPIError) -> bool:
        """Return whether a statement was refused before it ran, because its plan was outdated."""
        ...

    def is_query_timeout(self, error: BaseException, connection: Connection) -> bool:
        """Return whether a statement that ended with ``error`` was stopped for taking too long."""
        ...

    def adapt(self, connection: Any) -> None:
        """Put SQLAlchemy's adapted connection, which is new, behind our lock."""
        ...

    def find_fault(self, connection: Any) -> str | None:
        """Return why an adapted connection must not be used by another user as it is.

        None if it is clean. Asks the driver only, and sends nothing.
        """
        ...

    async def clean(self, connection: Any, *, resets_all: bool) -> bool:
        """Clean an adapted connection, and with ``resets_all`` reset its whole session.

        Return False if it has to be closed. If the driver raises, it has to be closed, too.
        """
        ...

    async def stop(self, connection: Any, limit: float) -> bool:
        """Stop the statement that another task has under way on an adapted connection.

        Return False if it has not ended after ``limit`` seconds. Otherwise it stays usable.
        """
        ...

    async def ping(self, connection: Any) -> None:
        """Make the cheapest round trip on the driver's connection. Raises its errors."""
        ...

    async def reset(self, connection: Any) -> None:
        """Reset the settings of the session."""
        ...

    def is_open(self, connection: Any) -> bool:
        """Return whether the driver's connection still has a socket, a thread, a file."""
        ...

    def on_closed(self, connection: Any, listener: Callable[..., None]) -> None:
        """Call ``listener``, with any arguments, once the driver's connection has ended."""
        ...

    def disable_implicit_close(self, connection: Any) -> None:
        """Let only :meth:`close` and :meth:`terminate` here end the driver's connection."""
        ...

    async def close(self, connection: Any, timeout: float) -> None:
        """Close the driver's connection; ask the server to cancel first, for ``timeout`` seconds.

        Called from another task than the one that uses it, on the same loop.
        """
        ...

    def terminate(self, connection: Any) -> None:
        """End the driver's connection now, on its running loop, without asking the server."""
        ...

    def abort(self, connection: Any) -> None:
        """End the driver's connection from outside: its loop is closed, or does not run."""
        ...
