"""PostgreSQL through asyncpg."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import Engine

__all__ = ["PostgreSQLProfile"]

# The classes of SQLSTATE that another attempt does not change: invalid authorization, wrong
# password, unknown database (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_PERMANENT: Final = frozenset({"28000", "28P01", "3D000"})


class PostgreSQLProfile:
    """Stateless; one for all pools."""

    # A flag of the client on asyncpg: no BEGIN, no COMMIT, one round trip for one statement.
    autocommit_options: Mapping[str, Any] = {"isolation_level": "AUTOCOMMIT"}

    can_be_lost = True

    def connect_args(self, timeout: float, *, pgbouncer: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {"timeout": timeout}
        if pgbouncer:
            # In transaction mode the next statement may reach another server: none may rely on a
            # name that was given on this one. Unnamed ones work; unique names do not, because
            # outside of a transaction even "prepare" and "execute" may part.
            arguments |= {
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": str,
            }
        return arguments

    async def open(self, *positional: Any, **arguments: Any) -> Any:
        return await asyncpg.connect(*positional, **arguments)

    def install(self, engine: Engine) -> None:
        """Nothing to attach: a new connection is ready for use."""

    def is_permanent(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in _PERMANENT

    def remedy(self, error: BaseException) -> str:
        state = getattr(error, "sqlstate", None)
        if state == "3D000":
            return "Is its name right, and has it been created?"
        if state in _PERMANENT:
            return "Are user and password right, and may this user connect from here?"
        return "Is the server running, and are host and port right?"

    async def ping(self, connection: Any) -> None:
        await connection.execute("SELECT 1")  # asyncpg trips over the answer to an empty query

    async def reset(self, connection: Any) -> None:
        # What asyncpg's own pool does, and temporary objects too. DISCARD ALL would take the
        # prepared statements along that the driver still believes in.
        await connection.execute(f"{connection.get_reset_query()} DISCARD TEMP; DISCARD SEQUENCES")

    def is_open(self, connection: Any) -> bool:
        return not connection.is_closed()

    async def end(self, connection: Any, timeout: float) -> None:
        # close() also sends a CancelRequest; terminate() alone leaves the statement running.
        await connection.close(timeout=timeout)

    def terminate(self, connection: Any) -> None:
        connection.terminate()

    def cut(self, connection: Any) -> None:
        # Through the transport's own socket, never by descriptor number: that may have been given
        # to somebody else's socket in the meantime.
        transport = getattr(connection, "_transport", None)
        peer = transport.get_extra_info("socket") if transport is not None else None
        if peer is not None and peer.fileno() >= 0:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
