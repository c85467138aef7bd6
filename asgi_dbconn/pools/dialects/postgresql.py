"""PostgreSQL through asyncpg."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    PostgresError,
)
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.dialects.asyncpg_adapter import adapt
from asgi_dbconn.pools.dialects.asyncpg_cancel import cancel_and_wait
from asgi_dbconn.pools.dialects.asyncpg_connection import Connection, connect
from asgi_dbconn.pools.dialects.asyncpg_protocol import unexpose
from asgi_dbconn.pools.statement_lock import CANCEL_LIMIT

__all__ = ["PostgreSQLProfile"]

# The classes of SQLSTATE that another attempt does not change: invalid authorization, wrong
# password, unknown database, no right to connect to it
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_PERMANENT: Final = frozenset({"28000", "28P01", "3D000", "42501"})

# Serialization failure and deadlock: the server rolled one transaction back so that another could
# go on (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html).
_CONFLICTS: Final = frozenset({"40001", "40P01"})

_READ_ONLY: Final = "25006"
_READONLY_OPTION: Final = "postgresql_readonly"  # SQLAlchemy's


class PostgreSQLProfile:
    """The profile of PostgreSQL, stateless; one for all pools."""

    # No BEGIN, no COMMIT: one round trip for one statement.
    has_autocommit = True
    autocommit_options: Mapping[str, Any] = {}

    driver_errors: tuple[type[Exception], ...] = (
        PostgresError,
        InterfaceError,
        InternalClientError,
        OSError,
    )
    buffers_rows = True
    can_be_lost = True

    def connect_args(self, timeout: float, options: DatabaseOptions) -> dict[str, Any]:
        arguments: dict[str, Any] = {"timeout": timeout, "command_timeout": options.query_timeout}
        if options.pgbouncer:
            # In transaction mode the next statement may reach another server: none may rely on a
            # name that was given on this one. Unnamed ones work; unique names do not, because
            # outside of a transaction even "prepare" and "execute" may reach different ones.
            arguments |= {
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": str,
            }
        return arguments

    async def open(self, options: DatabaseOptions, *positional: Any, **arguments: Any) -> Any:
        # PgBouncer runs the statements of other clients in a session that we have set up.
        return await connect(*positional, watch_client=not options.pgbouncer, **arguments)

    def install(self, engine: Engine, options: DatabaseOptions) -> None:
        """Do nothing: a new connection is ready for use."""

    def is_conflict(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in _CONFLICTS

    def is_read_only_server(self, error: BaseException, options: Mapping[str, Any]) -> bool:
        return getattr(error, "sqlstate", None) == _READ_ONLY and not options.get(_READONLY_OPTION)

    def is_stale_plan(self, error: DBAPIError) -> bool:
        cause = getattr(error.orig, "__cause__", None)
        return isinstance(cause, InvalidCachedStatementError)

    def is_query_timeout(self, error: BaseException, connection: SyncConnection) -> bool:
        return isinstance(error, TimeoutError)

    def transaction_options(self, *, readonly: bool) -> Mapping[str, Any]:
        return {_READONLY_OPTION: True} if readonly else {}

    def is_permanent(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in _PERMANENT

    def remedy(self, error: BaseException) -> str:
        state = getattr(error, "sqlstate", None)
        if state == "3D000":
            return "Is its name right, and has it been created?"
        if state in _PERMANENT:
            return "Are user and password right, and may this user connect from here?"
        return "Is the server running, and are host and port right?"

    def adapt(self, connection: Any) -> None:
        adapt(connection)

    def find_fault(self, connection: Any) -> str | None:
        driver = connection._connection
        if driver.is_closed():
            return None  # the next acquire notices, and replaces it
        if driver.is_in_transaction():
            return "a transaction was still open on it"
        if driver._top_xact is not None:
            return "a transaction of the driver's own was left half begun"
        return None

    async def clean(self, connection: Any, *, resets_all: bool) -> bool:
        driver = connection._connection
        unexpose(driver)
        if driver.is_closed():
            return False
        if not driver.is_in_transaction() and driver._top_xact is not None:
            return False
        async with asyncio.timeout(CANCEL_LIMIT):
            if driver.is_in_transaction():
                driver._top_xact = connection._transaction = None
                await driver.execute("ROLLBACK")
            if resets_all:
                driver._listeners.clear()
                driver._log_listeners.clear()
                await self.reset(driver)
        return True

    async def stop(self, connection: Any, limit: float) -> bool:
        return await cancel_and_wait(connection._connection, connection._execute_mutex, limit)

    async def ping(self, connection: Any) -> None:
        await connection.execute("SELECT 1")  # asyncpg fails at the answer to an empty query

    async def reset(self, connection: Any) -> None:
        # As asyncpg's own pool, and temporary objects too. DISCARD ALL would also drop the prepared
        # statements, which the driver still counts on.
        again = connection.session_setup if isinstance(connection, Connection) else ""
        await connection.execute(
            f"{connection.get_reset_query()} DISCARD TEMP; DISCARD SEQUENCES; {again}"
        )

    def is_open(self, connection: Any) -> bool:
        return not connection.is_closed()

    async def close(self, connection: Any, timeout: float) -> None:
        # close() also sends a CancelRequest; terminate() alone leaves the statement running.
        if isinstance(connection, Connection):
            await connection.end(timeout)
        else:  # a class that was chosen in connect_args
            await connection.close(timeout=timeout)

    def on_closed(self, connection: Any, listener: Callable[..., None]) -> None:
        connection.add_termination_listener(listener)

    def disable_implicit_close(self, connection: Any) -> None:
        if isinstance(connection, Connection):
            connection.disable_implicit_close()

    def terminate(self, connection: Any) -> None:
        if isinstance(connection, Connection):
            connection.terminate_socket()
        else:
            connection.terminate()

    def abort(self, connection: Any) -> None:
        # Through the transport's own socket, never by descriptor number: that may have been given
        # to another socket in the meantime.
        transport = getattr(connection, "_transport", None)
        peer = transport.get_extra_info("socket") if transport is not None else None
        if peer is not None and peer.fileno() >= 0:
            # By a duplicate, because uvloop's own object cannot be shut down.
            with suppress(OSError), peer.dup() as twin:
                twin.shutdown(socket.SHUT_RDWR)
