"""``models.wsgi(app)`` for Flask, Django and other WSGI applications: one loop for all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any

from asgi_dbconn.errors import StartupFailed
from asgi_dbconn.loops.default_loop import Environment, process_default, require_real_threads
from asgi_dbconn.loops.fork import after_fork
from asgi_dbconn.loops.managed_loop import ManagedLoop
from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["WSGIApp", "WSGIMiddleware"]

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WSGIMiddleware:
    """The application, with the registry connected from the first request to the process's end.

    The event loop has a thread of its own, one in each process. The first request starts it, so
    it is started after the server has forked its workers. Every thread that calls ``run_sync``
    submits its work to this loop, and all share one pool.

    A request raises StartupFailed if the registry cannot be connected; the next one tries again.
    """

    def __init__(self, app: WSGIApp, registry: AbstractAsyncContextManager[Any]) -> None:
        require_real_threads("models.wsgi()")
        self.app = app
        self._registry = registry
        self._is_entered = False  # in a forked process also if the parent entered it
        self._reset()
        after_fork(self._reset)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        own = self._managed_loop
        if own is None or own.is_closing:
            self._connect()
        return self.app(environ, start_response)

    def _reset(self) -> None:
        # In a forked process, too: the loop's thread, and the owner of the lock, are the parent's.
        self._lock = threading.Lock()
        self._managed_loop: ManagedLoop | None = None
        self._attempt: Future[ManagedLoop] | None = None

    def _connect(self) -> None:
        require_real_threads("models.wsgi()")
        with self._lock:
            attempt, is_ours = self._attempt, self._attempt is None
            if attempt is None:
                attempt = self._attempt = Future()
        if is_ours:
            self._attempt_connect(attempt)
        # Requests that came in the meantime share the outcome. If they connected one after the
        # other, a database that is down would delay the last one by many times startup_timeout.
        error = attempt.exception()
        if error is not None:
            # Not the error itself: servers treat an OSError as a broken socket, and do not answer.
            raise StartupFailed(
                f"The databases of this WSGI application could not be connected: {error} "
                "The next request tries again."
            ) from error

    def _attempt_connect(self, attempt: Future[ManagedLoop]) -> None:
        try:
            own = self._managed_loop
            if own is None or own.is_closing:  # otherwise another thread has just connected
                own = self._managed_loop = self._open()
            attempt.set_result(own)
        except BaseException as error:
            attempt.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._attempt = None

    def _open(self) -> ManagedLoop:
        present = process_default()
        own = present.managed if present is not None else None
        if own is not None and own.has_thread and not own.is_closing:
            run_sync(self._enter(), loop=own.loop)
        else:
            own = self._start()
        own.add_cleanup(self._leave)
        return own

    def _start(self) -> ManagedLoop:
        own = ManagedLoop()
        try:
            own.start("wsgi")
            run_sync(self._enter(), loop=own.loop)
        except BaseException:
            own.close()
            raise
        # For every thread, until the process ends: this environment is never left.
        Environment(own).__enter__()
        return own

    async def _enter(self) -> None:
        await self._registry.__aenter__()
        if self._is_entered:
            await self._registry.__aexit__(None, None, None)
        self._is_entered = True

    async def _leave(self) -> None:
        self._is_entered = False
        await self._registry.__aexit__(None, None, None)
