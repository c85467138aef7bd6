"""Registries in synchronous code: connected for a block, or for as long as a loop is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import partial
from typing import Any, Final, Self

from asgi_dbconn.errors import LoopGoneError
from asgi_dbconn.loops.context_task import ContextTask
from asgi_dbconn.loops.environment import Environment, require_real_threads
from asgi_dbconn.loops.loop_lifetime import ShutdownHook, watcher_of
from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["AsyncEnvironment", "PersistentLoops"]

Loop = asyncio.AbstractEventLoop
Connect = Callable[[Loop, ExitStack], None]
"""A function that connects for a block; what has to be undone at its end goes onto the stack."""


class AsyncEnvironment:
    """A block of synchronous code with a loop of its own, and something connected on it.

    May be entered again, inside of itself too, and by any number of threads.
    """

    def __init__(self, connect: Connect, loop: Loop | None) -> None:
        self._connect = connect
        self._loop = loop
        # Each thread leaves what it has entered, whatever the others do.
        self._entered = threading.local()

    @classmethod
    def connect(
        cls, registry: AbstractAsyncContextManager[Any], loop: Loop | None
    ) -> AsyncEnvironment:
        """Return a block with which ``registry`` is entered and left."""

        def connect(loop: Loop, stack: ExitStack) -> None:
            held = ContextTask(registry)
            held.enter(loop)
            stack.callback(held.leave)

        return cls(connect, loop)

    def __enter__(self) -> Self:
        require_real_threads("An async environment")
        with ExitStack() as stack:
            environment = stack.enter_context(Environment.choose(self._loop))
            self._connect(environment.loop, stack)
            self._stacks.append(stack.pop_all())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stacks.pop().close()

    @property
    def _stacks(self) -> list[ExitStack]:
        stacks: list[ExitStack] | None = getattr(self._entered, "stacks", None)
        if stacks is None:
            stacks = self._entered.stacks = []
        return stacks


class PersistentLoops:
    """The loops on which a registry stays connected between blocks; one count is held for each.

    It is given back when the loop shuts down its async generators or, where it is closed without
    a word, by ``release_from_closed_loop``, in the thread that closes it.
    """

    def __init__(
        self,
        registry: AbstractAsyncContextManager[Any],
        release_from_closed_loop: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._release_from_closed_loop = release_from_closed_loop
        self._guards: Final[dict[Loop, ShutdownHook]] = {}

    def environment(self, loop: Loop) -> AsyncEnvironment:
        """Return a block on ``loop``. The first one connects; the end of one does not disconnect.

        Raises LoopGoneError if ``loop`` is closed.
        """
        if loop.is_closed():
            raise LoopGoneError("The event loop given to with_loop is closed. Give an open one.")
        return AsyncEnvironment(self._warm_up, loop)

    def forget(self) -> None:
        """Forget the counts: the registry was disconnected by force."""
        while self._guards:
            _, guard = self._guards.popitem()
            guard.disable()

    def _warm_up(self, loop: Loop, _: ExitStack) -> None:
        if loop not in self._guards:
            run_sync(self._connect(loop), loop=loop)

    async def _connect(self, loop: Loop) -> None:
        await self._registry.__aenter__()
        if loop in self._guards:  # another thread came first
            await self._registry.__aexit__(None, None, None)
            return

        async def disconnect() -> None:
            if self._guards.pop(loop, None) is not None:
                await self._registry.__aexit__(None, None, None)

        # On the loop that runs this, which is a subloop where the given one has to wait for us.
        self._guards[loop] = ShutdownHook(disconnect)
        watcher_of(loop).add(partial(self._loop_is_gone, loop))

    def _loop_is_gone(self, loop: Loop) -> None:
        guard = self._guards.pop(loop, None)
        if guard is not None:
            guard.disable()
            self._release_from_closed_loop()
