"""PostgreSQL through asyncpg."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from sqlalchemy.engine import Engine

__all__ = ["PostgreSQLProfile"]

# The classes of SQLSTATE that another attempt does not change: invalid authorization, wrong
# password, unknown database (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_PERMANENT: Final = frozenset({"28000", "28P01", "3D000"})


class PostgreSQLProfile:
    """Stateless; one for all pools."""

    # A flag of the client on asyncpg: no BEGIN, no COMMIT, one round trip for one statement.
    autocommit_options: Mapping[str, Any] = {"isolation_level": "AUTOCOMMIT"}

    def connect_args(self, timeout: float) -> dict[str, Any]:
        return {"timeout": timeout}

    def install(self, engine: Engine) -> None:
        """Nothing to attach: a new connection is ready for use."""

    def is_permanent(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in _PERMANENT

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
