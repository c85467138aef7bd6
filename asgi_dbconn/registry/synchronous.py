"""The part of a registry for synchronous code."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.util import greenlet_spawn

from asgi_dbconn.registry.environments import AsyncEnvironment, PersistentLoops
from asgi_dbconn.registry.wsgi import WSGIApp, WSGIMiddleware

__all__ = ["SynchronousUse"]

P = ParamSpec("P")
T = TypeVar("T")


class SynchronousUse(AbstractAsyncContextManager[Any]):
    """A mixin for a class that connects when it is entered and disconnects when it is left."""

    def __init__(self) -> None:
        self._persistent_loops = PersistentLoops(self, self._release_from_closed_loop)

    @abstractmethod
    def _release_from_closed_loop(self) -> None:
        """Give the references of one connect back, in the name of a loop that was closed."""

    def with_async_env(
        self, loop: asyncio.AbstractEventLoop | None = None
    ) -> AbstractContextManager[object]:
        """Connect inside ``with models.with_async_env():``, for ``run_sync`` in any thread.

        On ``loop``, or else the one that this thread or an outer block has, or else one that is
        made for the block. Re-entrant: an inner block opens nothing. Raises what connecting does.
        """
        return AsyncEnvironment.connect(self, loop)

    def with_loop(self, loop: asyncio.AbstractEventLoop) -> AbstractContextManager[object]:
        """Connect on a loop that stays connected afterwards: entering it again costs nothing.

        Until the loop is closed, or ``disconnect(force=True)``. Where
        ``loop.run_until_complete(loop.shutdown_asyncgens())`` comes before ``loop.close()``, the
        connections end in good order. Else they are cut off, with an UnclosedDatabaseWarning.
        """
        return self._persistent_loops.environment(loop)

    def wsgi(self, app: WSGIApp) -> WSGIMiddleware:
        """Return ``app``, for Flask and any other WSGI server, connected from its first request on.

        One loop and one pool for all threads of a process; closed when the process ends.
        """
        return WSGIMiddleware(app, self)

    async def sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the synchronous ``function`` so that ``run_sync`` inside it costs no thread.

        It runs on this loop, in this task, and in the scope that is open: same connection, same
        transaction. While it waits by ``run_sync`` the loop goes on; while it computes, the loop
        stands still.
        """
        return await greenlet_spawn(partial(function, *args, **kwargs))
