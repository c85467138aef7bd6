"""One thing per event loop: made when first asked for, gone with its loop, unknown to a child."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from asgi_dbconn.loops.fork import after_every_fork, park

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """The values of a module by event loop, safe from every thread.

    A value must not refer to its loop, or neither ever goes. After a fork the child starts with
    none: the values speak of threads that it does not have.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._start_empty()
        after_every_fork(self._in_child)

    def get(self, loop: asyncio.AbstractEventLoop) -> T | None:
        """Return the loop's value if it has one already."""
        return self._values.get(weakref.ref(loop))

    def of(self, loop: asyncio.AbstractEventLoop) -> T:
        """Return the loop's value. The first caller has it made; all others wait for that one."""
        value = self._values.get(weakref.ref(loop))
        if value is None:
            with self._lock:
                value = self.get(loop)
                if value is None:
                    value = self._make(loop)
                    self._values[weakref.ref(loop, self._drop)] = value
        return value

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget the loop's value, so that the next caller has another one made."""
        with self._lock:
            self._values.pop(weakref.ref(loop), None)

    def _start_empty(self) -> None:
        # Re-entrant, because a signal handler may ask while its own thread is asking.
        self._lock = threading.RLock()
        # Not a WeakKeyDictionary, whose every look-up goes through functions written in Python.
        values = self._values = dict[weakref.ref[asyncio.AbstractEventLoop], T]()

        def drop(reference: weakref.ref[asyncio.AbstractEventLoop]) -> None:
            values.pop(reference, None)

        self._drop = drop

    def _in_child(self) -> None:
        park(self._values)
        self._start_empty()
