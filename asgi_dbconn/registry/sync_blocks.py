"""Registries in synchronous code: connected for a block, or until a loop is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import partial
from typing import Any, Final, Self

from asgi_dbconn.errors import LoopGoneError
from asgi_dbconn.loops.context_manager_task import ContextTask
from asgi_dbconn.loops.default_loop import Environment, require_real_threads
from asgi_dbconn.loops.loop_lifetime import ShutdownHook, watcher_of
from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["AsyncEnvironment", "PersistentLoops"]

Loop = asyncio.AbstractEventLoop
Connect = Callable[[Loop, ExitStack], None]
"""A function that connects for a block, and pushes onto the stack what undoes it at the end."""


class AsyncEnvironment:
    """A block of synchronous code with a loop, on which a registry is connected.

    It may be entered again, also inside of itself, and by any number of threads.
    """

    def __init__(self, connect: Connect, loop: Loop | None) -> None:
        self._connect = connect
        self._loop = loop
        # Per thread: each thread leaves what it has entered itself.
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
    """The loops on which a registry stays connected between blocks; one reference for each.

    The reference is released when the loop shuts down its async generators. If the loop is closed
    without that, ``release_from_closed_loop`` releases it, in the thread that closes the loop.
    """

    def __init__(
        self,
        registry: AbstractAsyncContextManager[Any],
        release_from_closed_loop: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._release_from_closed_loop = release_from_closed_loop
        self._hooks: Final[dict[Loop, ShutdownHook]] = {}

    def environment(self, loop: Loop) -> AsyncEnvironment:
        """Return a block on ``loop``. The first one connects; the end of one does not disconnect.

        Raises LoopGoneError if ``loop`` is closed.
        """
        if loop.is_closed():
            raise LoopGoneError("The event loop given to with_loop is closed. Give an open one.")
        return AsyncEnvironment(self._connect_once, loop)

    def forget(self) -> None:
        """Forget the references: the registry was disconnected by force."""
        while self._hooks:
            _, hook = self._hooks.popitem()
            hook.disable()

    def _connect_once(self, loop: Loop, _: ExitStack) -> None:
        if loop not in self._hooks:
            run_sync(self._connect(loop), loop=loop)

    async def _connect(self, loop: Loop) -> None:
        await self._registry.__aenter__()
        if loop in self._hooks:  # another thread has connected in the meantime
            await self._registry.__aexit__(None, None, None)
            return

        async def disconnect() -> None:
            if self._hooks.pop(loop, None) is not None:
                await self._registry.__aexit__(None, None, None)

        # The hook is for the loop that runs this. That is a subloop if the given one is blocked.
        self._hooks[loop] = ShutdownHook(disconnect)
        watcher_of(loop).add(partial(self._on_loop_closed, loop))

    def _on_loop_closed(self, loop: Loop) -> None:
        hook = self._hooks.pop(loop, None)
        if hook is not None:
            hook.disable()
            self._release_from_closed_loop()
