"""Being told that an event loop is gone, closed or garbage-collected, without ever asking it.

``loop.close()`` drops what the loop still had to do, and a loop that is garbage-collected takes it
along. So an object that only the loop's own list of timers refers to dies with the loop, and its
death is the message. asyncio's loops and uvloop both keep to that; an unclosed uvloop is never
collected, so of those only the closing is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Final

from asgi_dbconn.loops.fork import generation
from asgi_dbconn.loops.per_loop import PerLoop

__all__ = ["Watch", "end_begins", "is_ending", "watch"]

_YEARS: Final = 3e8


class Watch:
    """A watch over one loop, which tells its listeners once that the loop is gone."""

    def __init__(self) -> None:
        self.is_ending = False
        self.is_gone = False
        self.is_told = False
        """True if anything would tell it that the loop is gone."""
        self._listeners: set[Callable[[], None]] = set()
        self._generation = generation()

    def add(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the loop is gone, immediately if it is already.

        It is called in any thread, possibly by the garbage collector: it must take no lock.
        """
        self._listeners.add(listener)
        if self.is_gone:
            self._tell()

    def remove(self, listener: Callable[[], None]) -> None:
        self._listeners.discard(listener)

    def loop_is_gone(self) -> None:
        # A child may finalise the loop that it inherited. That says nothing about the parent's.
        if self._generation == generation():
            self.is_gone = True
            self._tell()

    def _tell(self) -> None:
        # One at a time, each taken out in a single step, for several threads may do this at once.
        while True:
            try:
                listener = self._listeners.pop()
            except KeyError:
                return
            listener()


class _Sentinel:
    """An object that lives in a loop's list of things to do, and nowhere else."""

    __slots__ = ("_watch",)

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self) -> None:
        # An empty context, so that the timer keeps nothing of its surroundings alive.
        asyncio.get_running_loop().call_later(_YEARS, self, context=Context())

    def __del__(self) -> None:
        self._watch.loop_is_gone()


def _place_sentinel(loop: asyncio.AbstractEventLoop, watch: Watch) -> None:
    watch.is_told = True
    sentinel = _Sentinel(watch)
    if asyncio._get_running_loop() is loop:
        sentinel()
    else:
        # A loop that is closed already refuses, and the sentinel dies right here.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(sentinel, context=Context())


_watches: Final = PerLoop(lambda _: Watch())


def watch(loop: asyncio.AbstractEventLoop) -> Watch:
    """Return the watch over ``loop``, from any thread; it begins with the first call."""
    watch = _watches.of(loop)
    if not watch.is_told:  # two threads may place one each: the second message is no news
        _place_sentinel(loop, watch)
    return watch


def end_begins(loop: asyncio.AbstractEventLoop) -> None:
    """Note that we are ending ``loop``."""
    _watches.of(loop).is_ending = True


def is_ending(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether we are ending ``loop``; what is cancelled there now, is so for good."""
    watch = _watches.get(loop)
    return watch is not None and watch.is_ending
