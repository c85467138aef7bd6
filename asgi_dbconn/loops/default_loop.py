"""The default loop of threads that have none: environments and application loops.

An environment is a block (``with_async_env``) with a loop. Code of its context finds it by a
context variable, every other thread of the process by asking for the oldest one that is open.

An application loop is one on which a database was connected. A threadpool endpoint runs in a thread
without a loop, and nothing tells which application it belongs to. So the loop is registered once,
and such a thread finds it without a cost per request.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from contextvars import ContextVar
from typing import Any, Final, Self

from asgi_dbconn.errors import ConfigurationError, LoopGoneError
from asgi_dbconn.loops.fork import after_every_fork, fork_count
from asgi_dbconn.loops.managed_loop import ManagedLoop

__all__ = [
    "Environment",
    "app_loop",
    "current_environment",
    "may_use_loop",
    "process_default",
    "register_app_loop",
    "require_real_threads",
    "unregister_app_loop",
]


def require_real_threads(what: str) -> None:
    """Raise ConfigurationError, in the name of ``what``, where gevent or eventlet replace threads.

    A green thread that waits blocks all the others.
    """
    for library in ("gevent", "eventlet"):
        if _is_patched(library):
            raise ConfigurationError(
                f"{what} needs real threads: an event loop runs in one of them, and {library} has "
                "replaced them. Use a worker with threads (gunicorn --threads, waitress), or an "
                "ASGI server."
            )


def _is_patched(library: str) -> bool:
    # Not imported for this: a library that is not loaded has not replaced anything.
    if library == "gevent":
        monkey: Any = sys.modules.get("gevent.monkey")
        return monkey is not None and bool(monkey.is_module_patched("threading"))
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def register_app_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Let synchronous code without a loop use ``loop`` until it ends or is unregistered.

    Call it in the thread that runs the loop. The loop that was registered last comes first.
    """
    _app_loops.register(loop)


def unregister_app_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Forget ``loop``, on which nothing is open any more. Do nothing if it is not registered."""
    _app_loops.unregister(loop)


def app_loop() -> asyncio.AbstractEventLoop | None:
    """Return the last registered loop that this thread may use now, or None."""
    return _app_loops.latest()


def may_use_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this thread may use ``loop`` though no caller has named it.

    A running loop does the work itself. An idle loop must not be run by another thread than its
    own, which may be about to run it, and would find it running already.
    """
    if loop.is_closed():
        return False
    return loop.is_running() or _app_loops.thread_of(loop) == threading.get_ident()


class _AppLoops:
    _registered: list[tuple[weakref.ref[asyncio.AbstractEventLoop], int]]

    def __init__(self) -> None:
        self._start_empty()
        after_every_fork(self._start_empty)

    def register(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._drop(loop)
            self._registered.append((weakref.ref(loop), threading.get_ident()))

    def unregister(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._drop(loop)

    def latest(self) -> asyncio.AbstractEventLoop | None:
        for reference, _ in reversed(self._registered):
            loop = reference()
            if loop is not None and may_use_loop(loop):
                return loop
        return None

    def thread_of(self, loop: asyncio.AbstractEventLoop) -> int | None:
        return next((thread for ref, thread in self._registered if ref() is loop), None)

    def _drop(self, dropped: asyncio.AbstractEventLoop) -> None:
        # A new list each time: readers take no lock.
        self._registered = [
            (reference, thread)
            for reference, thread in self._registered
            if (loop := reference()) is not None and loop is not dropped and not loop.is_closed()
        ]

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._registered = []


_app_loops: Final = _AppLoops()


class Environment:
    """A context manager for a loop. It is re-entrant, and may be entered by any thread.

    The last exit closes the loop if it is a managed one. A user's loop is left as it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | ManagedLoop) -> None:
        self.managed = loop if isinstance(loop, ManagedLoop) else None
        """The record of the loop if it is managed, to register clean-ups with."""
        self.loop = loop.loop if isinstance(loop, ManagedLoop) else loop
        self._generation = fork_count()
        self._before: list[Environment | None] = []

    @classmethod
    def choose(cls, loop: asyncio.AbstractEventLoop | None = None) -> Environment:
        """Return the environment for ``loop``, or else for the first of these loops that exists.

        They are the loop that runs here, the loop of this context's or of the process's
        environment, and a new managed loop.

        The environment is not entered yet. If it never is, close a new loop by ``managed.close()``.
        Raises LoopGoneError if ``loop`` is closed.
        """
        if loop is not None and loop.is_closed():
            raise LoopGoneError(
                "The event loop given to the environment is closed. Give one that is open, "
                "or none: the environment then makes its own."
            )
        present = current_environment() or process_default()
        wanted = loop or asyncio._get_running_loop()
        if present is not None and not present.loop.is_closed() and wanted in {None, present.loop}:
            return present
        return cls(wanted or ManagedLoop())

    @property
    def is_open_here(self) -> bool:
        """True if code of this process is inside of the block.

        A child does not run its parent's loops. Contexts that were copied inside may outlive it.
        """
        return bool(self._before) and self._generation == fork_count()

    def __enter__(self) -> Self:
        self._before.append(_current.get())
        _current.set(self)
        _defaults.add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # By value, not by a token: the block may be left in another context than it was entered in.
        _current.set(self._before.pop())
        if not self._before:
            _defaults.remove(self)
            if self.managed is not None and self._generation == fork_count():
                self.managed.close()


def current_environment() -> Environment | None:
    """Return the environment of this context. None also in a child of its process."""
    environment = _current.get()
    return environment if environment is not None and environment.is_open_here else None


def process_default() -> Environment | None:
    """Return the open environment of this process that was entered first, or None."""
    return next(
        (environment for environment in _defaults.open if not environment.loop.is_closed()), None
    )


class _Defaults:
    open: tuple[Environment, ...]

    def __init__(self) -> None:
        self._start_empty()
        after_every_fork(self._start_empty)

    def add(self, environment: Environment) -> None:
        with self._lock:
            if environment not in self.open:
                self.open = (*self.open, environment)

    def remove(self, environment: Environment) -> None:
        with self._lock:
            self.open = tuple(other for other in self.open if other is not environment)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self.open = ()


_current: Final[ContextVar[Environment | None]] = ContextVar(
    "asgi_dbconn_environment", default=None
)
_defaults: Final = _Defaults()
