"""Ports on the loopback address that can be closed and opened again."""

from __future__ import annotations

import errno
import secrets
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which systems choose the local port of an outgoing connection. A port out
# of that range could be taken by any client while its server is down, or a client that connects
# to the closed port could even be connected to itself.
_FIRST, _LAST = 15_000, 31_999


def bound_socket(port: int | None = None) -> socket.socket:
    """A TCP socket bound to `port` of the loopback address, or to a free port, not yet listening"""
    if port is not None:
        return _bind(port)
    for _ in range(200):
        try:
            return _bind(_FIRST + secrets.randbelow(_LAST - _FIRST + 1))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise RuntimeError(f"found no free port between {_FIRST} and {_LAST}")


def free_port() -> int:
    """A port that nothing is bound to at this moment."""
    with bound_socket() as found:
        port: int = found.getsockname()[1]
        return port


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
    except BaseException:
        bound.close()
        raise
    return bound
