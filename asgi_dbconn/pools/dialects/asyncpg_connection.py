"""An asyncpg connection that is closed exactly once, with keepalive and a check of the client."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Final

import asyncpg

from asgi_dbconn.pools.dialects.asyncpg_cancel import REPEAT_CANCEL_AFTER

__all__ = ["Connection", "connect"]

# The kernel probes a silent peer after half a minute, and closes the socket after another one
# without an answer. The system's own default would be two hours.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_WATCH_SETTING: Final = "client_connection_check_interval"
_WATCH: Final = f"SET {_WATCH_SETTING} = '10s'"
_WATCH_SINCE: Final = 14  # the major version of PostgreSQL that has it


class Connection(asyncpg.Connection):
    """A connection whose cancel request survives a second close.

    In asyncpg a second ``close()`` or ``terminate()`` drops the cancel request of the first. Here
    it does not.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._closing: asyncio.Future[None] | None = None
        self._closes_explicitly = False
        self._requests: set[asyncio.Task[None]] = set()
        """The requests to cancel a statement that were under way when it was closed."""
        self.session_setup = ""
        """The statements that a reset of the session has to repeat."""

    async def close(self, *, timeout: float | None = None) -> None:
        if not self._closes_explicitly:
            await self._close(timeout)

    def terminate(self) -> None:
        if not self._closes_explicitly:
            super().terminate()

    def disable_implicit_close(self) -> None:
        """Let only :meth:`end` and :meth:`terminate_socket` end it from now on."""
        self._closes_explicitly = True

    async def end(self, timeout: float) -> None:
        """Close it, or wait for the task that closes it already."""
        if self._closing is None:
            await self._close(timeout)
        else:
            await asyncio.wait({self._closing}, timeout=timeout)

    def terminate_socket(self) -> None:
        """End it now, without asking the server."""
        super().terminate()

    def _clean_tasks(self) -> None:
        # asyncpg would drop the requests to cancel a statement, which would then run on.
        self._requests = self._cancellations
        self._cancellations: set[asyncio.Task[None]] = set()

    async def _close(self, timeout: float | None) -> None:
        if self._closing is not None:
            return
        loop = asyncio.get_running_loop()
        self._closing = loop.create_future()
        closing = loop.create_task(super().close(timeout=timeout))
        try:
            while closing not in (await asyncio.wait({closing}, timeout=REPEAT_CANCEL_AFTER))[0]:
                self._cancel_current_command(loop.create_future())  # type: ignore[attr-defined]
            await closing
        except asyncio.CancelledError:
            closing.cancel()
            await asyncio.wait({closing})
            raise
        finally:
            self._closing.set_result(None)

    async def watch_client(self, timeout: float) -> None:
        """Let the server check, while it executes a statement, that this client still exists.

        A process that is killed would otherwise leave its statements running.
        """
        try:
            await self.execute(_WATCH, timeout=timeout)
        except asyncpg.PostgresError:
            return  # the server's platform cannot
        self.session_setup = _WATCH


async def connect(*positional: Any, watch_client: bool, **arguments: Any) -> Any:
    """Open a connection by ``asyncpg.connect``, within its ``timeout`` seconds."""
    deadline = time.monotonic() + arguments["timeout"]
    arguments = {"connection_class": Connection, **arguments}
    settings = arguments.get("server_settings") or {}
    connection = await asyncpg.connect(*positional, **arguments)
    try:
        _keep_alive(connection)
        is_able = connection.get_server_version().major >= _WATCH_SINCE
        is_ours = isinstance(connection, Connection)  # else connect_args chose another class
        if watch_client and is_ours and is_able and _WATCH_SETTING not in settings:
            await connection.watch_client(max(deadline - time.monotonic(), 0.001))
    except BaseException:
        connection.terminate()
        raise
    return connection


def _keep_alive(connection: Any) -> None:
    peer = connection._transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)  # not every system has each of them
        if option is not None:
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
