"""The way for other threads to have something done on a loop of ours in a thread of its own.

As by ``call_soon_threadsafe``, for less. uvloop's wakes its thread up while the caller still holds
the interpreter's lock, so that thread goes to sleep again immediately, and the two change places
three times instead of once. A byte sent through a socket does not have the lock while it wakes a
thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

__all__ = ["Mailbox"]


class Mailbox:
    """A mailbox made before its loop runs and closed when that has stopped; any thread may post."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the mailbox.

        Raises OSError if the process has no descriptors left, NotImplementedError if the loop
        cannot wait for sockets: Windows' proactor.
        """
        self._letters: deque[tuple[Callable[..., object], tuple[Any, ...], Context]] = deque()
        self._inside, self._outside = socket.socketpair()
        try:
            self._inside.setblocking(False)
            self._outside.setblocking(False)
            loop.add_reader(self._inside.fileno(), self._empty)
        except BaseException:
            self._close_sockets()
            raise

    def post(self, callback: Callable[..., object], *args: Any, context: Context) -> None:
        """Call ``callback(*args)`` in ``context`` on the loop, soon and in the order of posting.

        Raises OSError if the box is closed. What was not read by then is dropped.
        """
        self._letters.append((callback, args, context))
        try:
            self._outside.send(b"\0")
        except BlockingIOError:
            return  # thousands of bytes wait there already: the loop knows

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the mailbox, in the loop's thread, while the loop stands still."""
        loop.remove_reader(self._inside.fileno())
        self._close_sockets()

    def _empty(self) -> None:
        # As many as there were bytes, at least: a letter is in the box before its byte is sent.
        self._inside.recv(4096)
        for _ in range(len(self._letters)):
            callback, args, context = self._letters.popleft()
            context.run(callback, *args)

    def _close_sockets(self) -> None:
        self._inside.close()
        self._outside.close()
