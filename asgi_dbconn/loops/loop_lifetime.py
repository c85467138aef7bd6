"""State per event loop, and callbacks when a loop shuts down or is closed, without polling.

A **shutdown hook** still runs on the loop. ``asyncio.run``, ``Runner``, uvloop and anyio all call
``loop.shutdown_asyncgens()`` before they close their loop, and that finalises async generators
*inside* the loop. So a generator suspended at its ``yield`` is a clean-up hook, made of public
behaviour only.

A **close watcher** is told when the loop was closed or garbage-collected. ``loop.close()`` drops
the loop's timers, and so does the garbage collector. So an object that only a timer refers to dies
with the loop, and its finaliser tells. asyncio's loops and uvloop both behave so. An unclosed
uvloop is never collected: of those only the closing is noticed.
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
    """A hook that calls ``clean_up`` on the running loop once, when that loop shuts down.

    It lives until then or until :meth:`cancel`. Keep a reference to it: a hook that is
    garbage-collected runs too early. Make it and cancel it while the loop runs, in its thread.
    """

    def __init__(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        self._clean_up: Callable[[], Awaitable[None]] | None = clean_up
        self._loop = asyncio.get_running_loop()
        self._suspended = self._wait_for_shutdown()
        _step(self._suspended.__anext__())

    def cancel(self) -> None:
        """Drop the clean-up, which happens otherwise. Do nothing if the loop is closed already."""
        if self._clean_up is not None and not self._loop.is_closed():
            self._clean_up = None
            _step(self._suspended.aclose())

    def disable(self) -> None:
        """Do as :meth:`cancel` does, from outside of the loop: the generator stays as it is."""
        self._clean_up = None

    async def _wait_for_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            clean_up, self._clean_up = self._clean_up, None
            if clean_up is not None:
                await clean_up()


def _step(awaitable: Awaitable[None]) -> None:
    # Up to its `yield`, and from there to its end once it is cancelled, the generator awaits
    # nothing. So it can be advanced without being awaited.
    with suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().send(None)


class PerLoop(Generic[T]):
    """Values of a module by event loop. For any thread.

    A value must not refer to its loop, or neither is ever collected. A forked child starts without
    values: they speak of threads that it does not have.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        self._start_empty()
        after_every_fork(self._in_child)

    def get(self, loop: asyncio.AbstractEventLoop) -> T | None:
        """Return the value of ``loop``, or None."""
        return self._values.get(weakref.ref(loop))

    def get_or_create(self, loop: asyncio.AbstractEventLoop) -> T:
        """Return the value of ``loop``. The first caller makes it, and all others wait for that."""
        value = self._values.get(weakref.ref(loop))
        if value is None:
            with self._lock:
                value = self.get(loop)
                if value is None:
                    value = self._make(loop)
                    self._values[weakref.ref(loop, self._drop)] = value
        return value

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget the value of ``loop``, so that the next caller makes another one."""
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
    """A watcher that calls its listeners once when its loop is closed or collected."""

    def __init__(self) -> None:
        self.is_shutting_down = False
        self.is_closed = False
        self.is_told = False
        """True if a sentinel would tell it that the loop is closed."""
        self._listeners: set[Callable[[], None]] = set()
        self._generation = fork_count()

    def add(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the loop is closed, immediately if it is already.

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
        # One at a time, each popped in one atomic step: several threads may do this together.
        while True:
            try:
                listener = self._listeners.pop()
            except KeyError:
                return
            listener()


class _Sentinel:
    """An object that only a timer of the loop refers to."""

    __slots__ = ("_watcher",)

    def __init__(self, watcher: CloseWatcher) -> None:
        self._watcher = watcher

    def __call__(self) -> None:
        # An empty context, so that the timer keeps no context variables alive.
        asyncio.get_running_loop().call_later(YEARS, self, context=Context())

    def __del__(self) -> None:
        self._watcher.notify()


def _place_sentinel(loop: asyncio.AbstractEventLoop, watcher: CloseWatcher) -> None:
    watcher.is_told = True
    sentinel = _Sentinel(watcher)
    if asyncio._get_running_loop() is loop:
        sentinel()
    else:
        # A loop that is closed already refuses, and the sentinel dies right here.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(sentinel, context=Context())


_watchers: Final = PerLoop(lambda _: CloseWatcher())


def watcher_of(loop: asyncio.AbstractEventLoop) -> CloseWatcher:
    """Return the watcher of ``loop``, which begins with the first call. For any thread."""
    watcher = _watchers.get_or_create(loop)
    if not watcher.is_told:  # two threads may place one each: the second message is no news
        _place_sentinel(loop, watcher)
    return watcher


def begin_shutdown(loop: asyncio.AbstractEventLoop) -> None:
    """Note that this package shuts ``loop`` down."""
    _watchers.get_or_create(loop).is_shutting_down = True


def is_shutting_down(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this package shuts ``loop`` down, so that a cancellation there is final."""
    watcher = _watchers.get(loop)
    return watcher is not None and watcher.is_shutting_down
