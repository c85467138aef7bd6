"""Being told that an event loop is gone, closed or garbage-collected, without ever asking it.

``loop.close()`` drops what the loop still had to do, and a loop that is garbage-collected takes it
along. So an object that only the loop's own list of timers refers to dies with the loop, and its
death is the message. asyncio's loops and uvloop both keep to that; an unclosed uvloop is never
collected, so of those only the closing is noticed.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from typing import Final, Generic, TypeVar

from asgi_dbconn.loops.fork import after_every_fork, fork_count, keep_forever

__all__ = [
    "YEARS",
    "CloseWatcher",
    "PerLoop",
    "ShutdownHook",
    "begin_shutdown",
    "is_shutting_down",
    "watcher_of",
]

T = TypeVar("T")

YEARS: Final = 3e8
"""Almost ten years in seconds: the time after which something that needs a time never happens."""


class ShutdownHook:
    """A guard that calls ``clean_up`` on the running loop once, when that loop shuts down.

    Lives until then or until :meth:`dismiss`. Hold on to it: a guard that is garbage-collected
    fires too early. Make it while the loop runs, and dismiss it there.
    """

    def __init__(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        self._clean_up: Callable[[], Awaitable[None]] | None = clean_up
        self._loop = asyncio.get_running_loop()
        self._suspended = self._wait_for_shutdown()
        _step(self._suspended.__anext__())

    def cancel(self) -> None:
        """Forget the clean-up, which happens otherwise. Does nothing if it comes too late."""
        if self._clean_up is not None and not self._loop.is_closed():
            self._clean_up = None
            _step(self._suspended.aclose())

    def disable(self) -> None:
        """Do as :meth:`dismiss` does, from outside of the loop: the generator stays as it is."""
        self._clean_up = None

    async def _wait_for_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            clean_up, self._clean_up = self._clean_up, None
            if clean_up is not None:
                await clean_up()


def _step(awaitable: Awaitable[None]) -> None:
    # Up to its `yield`, and from there to its end once dismissed, the generator awaits nothing,
    # so it can be moved without being awaited itself.
    with suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().send(None)


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

    def get_or_create(self, loop: asyncio.AbstractEventLoop) -> T:
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
        keep_forever(self._values)
        self._start_empty()


class CloseWatcher:
    """A watch over one loop, which tells its listeners once that the loop is gone."""

    def __init__(self) -> None:
        self.is_shutting_down = False
        self.is_closed = False
        self.is_told = False
        """True if anything would tell it that the loop is gone."""
        self._listeners: set[Callable[[], None]] = set()
        self._generation = fork_count()

    def add(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the loop is gone, immediately if it is already.

        It is called in any thread, possibly by the garbage collector: it must take no lock.
        """
        self._listeners.add(listener)
        if self.is_closed:
            self._tell()

    def remove(self, listener: Callable[[], None]) -> None:
        self._listeners.discard(listener)

    def notify(self) -> None:
        # A child may finalise the loop that it inherited. That says nothing about the parent's.
        if self._generation == fork_count():
            self.is_closed = True
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

    def __init__(self, watch: CloseWatcher) -> None:
        self._watch = watch

    def __call__(self) -> None:
        # An empty context, so that the timer keeps nothing of its surroundings alive.
        asyncio.get_running_loop().call_later(YEARS, self, context=Context())

    def __del__(self) -> None:
        self._watch.notify()


def _place_sentinel(loop: asyncio.AbstractEventLoop, watch: CloseWatcher) -> None:
    watch.is_told = True
    sentinel = _Sentinel(watch)
    if asyncio._get_running_loop() is loop:
        sentinel()
    else:
        # A loop that is closed already refuses, and the sentinel dies right here.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(sentinel, context=Context())


_watchers: Final = PerLoop(lambda _: CloseWatcher())


def watcher_of(loop: asyncio.AbstractEventLoop) -> CloseWatcher:
    """Return the watch over ``loop``, from any thread; it begins with the first call."""
    watch = _watchers.get_or_create(loop)
    if not watch.is_told:  # two threads may place one each: the second message is no news
        _place_sentinel(loop, watch)
    return watch


def begin_shutdown(loop: asyncio.AbstractEventLoop) -> None:
    """Note that we are ending ``loop``."""
    _watchers.get_or_create(loop).is_shutting_down = True


def is_shutting_down(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether we are ending ``loop``; what is cancelled there now, is so for good."""
    watch = _watchers.get(loop)
    return watch is not None and watch.is_shutting_down
