"""The application's own loop, for its threads that have none.

A threadpool endpoint runs in a thread without a loop, and without any sign of which application it
belongs to. Code that opens something on a loop notes it here, once, so that such a thread finds it
and pays nothing for it per request.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Final

from asgi_dbconn.loops.fork import after_every_fork

__all__ = ["forget", "home_loop", "is_at_home", "note"]

Loop = asyncio.AbstractEventLoop


def note(loop: Loop) -> None:
    """Let synchronous code without a loop use ``loop`` until that ends or is forgotten.

    Call it in the thread that runs the loop. The latest note counts first.
    """
    _homes.note(loop)


def forget(loop: Loop) -> None:
    """Forget ``loop``, on which nothing is open any more. Does nothing if it was not noted."""
    _homes.forget(loop)


def home_loop() -> Loop | None:
    """Return the latest of the noted loops that this thread may use now; None if there is none."""
    return _homes.latest()


def is_at_home(loop: Loop) -> bool:
    """Return whether this thread may use ``loop`` without having been told to.

    A loop that runs does the work itself. One that is idle must not be run by another thread than
    its own: it may be about to go on, and would find itself running already.
    """
    if loop.is_closed():
        return False
    return loop.is_running() or _homes.thread_of(loop) == threading.get_ident()


class _Homes:
    _noted: list[tuple[weakref.ref[Loop], int]]

    def __init__(self) -> None:
        self._start_empty()
        after_every_fork(self._start_empty)

    def note(self, loop: Loop) -> None:
        with self._lock:
            self._drop(loop)
            self._noted.append((weakref.ref(loop), threading.get_ident()))

    def forget(self, loop: Loop) -> None:
        with self._lock:
            self._drop(loop)

    def latest(self) -> Loop | None:
        for reference, _ in reversed(self._noted):
            loop = reference()
            if loop is not None and is_at_home(loop):
                return loop
        return None

    def thread_of(self, loop: Loop) -> int | None:
        return next((thread for ref, thread in self._noted if ref() is loop), None)

    def _drop(self, gone: Loop) -> None:
        # A new list each time: readers take no lock.
        self._noted = [
            (reference, thread)
            for reference, thread in self._noted
            if (loop := reference()) is not None and loop is not gone and not loop.is_closed()
        ]

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._noted = []


_homes: Final = _Homes()
