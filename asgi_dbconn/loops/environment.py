"""The loop that synchronous code runs on between the beginning and the end of a block.

Inside, the code of that context finds it by a context variable, and every other thread of the
process by asking for the oldest one that is open.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Final, Self

from asgi_dbconn.errors import LoopGoneError
from asgi_dbconn.loops.fork import after_every_fork, generation
from asgi_dbconn.loops.managed_loop import OwnLoop

__all__ = ["Environment", "ambient", "process_default"]

Loop = asyncio.AbstractEventLoop


class Environment:
    """A context manager for a loop, usable again, also inside of itself and from any thread.

    The last one who leaves ends the loop if it is ours. A user's loop is left as it is.
    """

    def __init__(self, loop: Loop | OwnLoop) -> None:
        self.own = loop if isinstance(loop, OwnLoop) else None
        """The record of the loop if it is one of ours, to register clean-ups with."""
        self.loop = loop.loop if isinstance(loop, OwnLoop) else loop
        self._generation = generation()
        self._before: list[Environment | None] = []

    @classmethod
    def choose(cls, loop: Loop | None = None) -> Environment:
        """Return the environment for ``loop``, or else for the first loop of these that exists.

        That is the loop that runs here, or the one that this context or the process has already, or
        a new one of ours.

        Not entered yet; a new loop is ended by ``own.end()`` if it never is. Raises LoopGoneError
        if ``loop`` is closed.
        """
        if loop is not None and loop.is_closed():
            raise LoopGoneError(
                "The event loop given to the environment is closed. Give one that is open, "
                "or none: the environment then makes its own."
            )
        present = ambient() or process_default()
        wanted = loop or asyncio._get_running_loop()
        if present is not None and not present.loop.is_closed() and wanted in {None, present.loop}:
            return present
        return cls(wanted or OwnLoop())

    @property
    def counts(self) -> bool:
        """True if code of this process is inside of it.

        A child does not run its parent's loops. Contexts that were copied inside may outlive it.
        """
        return bool(self._before) and self._generation == generation()

    def __enter__(self) -> Self:
        self._before.append(_ambient.get())
        _ambient.set(self)
        _defaults.add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # By value, not by a token: the block may be left in another context than it was entered.
        _ambient.set(self._before.pop())
        if not self._before:
            _defaults.remove(self)
            if self.own is not None and self._generation == generation():
                self.own.end()


def ambient() -> Environment | None:
    """Return the environment of this context; None also in a child of its process."""
    environment = _ambient.get()
    return environment if environment is not None and environment.counts else None


def process_default() -> Environment | None:
    """Return the environment that was entered first, of those that are open in this process."""
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


_ambient: Final[ContextVar[Environment | None]] = ContextVar(
    "asgi_dbconn_environment", default=None
)
_defaults: Final = _Defaults()
