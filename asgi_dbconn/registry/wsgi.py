"""One line for Flask, Django and every other WSGI application: a loop for all of its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from asgi_dbconn.loops.environment import Environment, process_default
from asgi_dbconn.loops.fork import after_fork, generation
from asgi_dbconn.loops.green_threads import refuse_green_threads
from asgi_dbconn.loops.own_loop import OwnLoop
from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["WSGIApp", "WSGIMiddleware"]

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_NEVER: Final = -1


class WSGIMiddleware:
    """The application, with the registry connected from the first request to the process's end.

    The event loop has a thread of its own, one for each process: it is started by the first
    request, so after the server has forked its workers. Every thread that calls ``run_sync``
    hands its work over to it, and all share one pool.
    """

    def __init__(self, app: WSGIApp, registry: AbstractAsyncContextManager[Any]) -> None:
        refuse_green_threads("models.wsgi()")
        self.app = app
        self._registry = registry
        self._lock = threading.Lock()
        self._connected_in = _NEVER
        after_fork(self._after_fork)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if self._connected_in != generation():  # in this process, and not in its parent
            self._connect()
        return self.app(environ, start_response)

    def _connect(self) -> None:
        with self._lock:
            if self._connected_in == generation():
                return
            refuse_green_threads("models.wsgi()")
            present = process_default()
            if present is not None and present.own is not None and present.own.has_thread:
                own = present.own
                run_sync(self._registry.__aenter__(), loop=own.loop)
            else:
                own = self._start()
            own.before_end(lambda: self._registry.__aexit__(None, None, None))
            self._connected_in = generation()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it

    def _start(self) -> OwnLoop:
        own = OwnLoop()
        try:
            own.start("wsgi")
            run_sync(self._registry.__aenter__(), loop=own.loop)
        except BaseException:
            own.end()
            raise
        # For every thread of the process, as long as it lives: nobody leaves it.
        Environment(own).__enter__()
        return own
