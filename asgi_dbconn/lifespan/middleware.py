"""The ASGI middleware that keeps a registry connected exactly as long as the application runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.lifespan.cycle import LifespanCycle
from asgi_dbconn.lifespan.included_apps import IncludedApps
from asgi_dbconn.lifespan.missing_lifespan import MissingLifespanPolicy, WithoutLifespan
from asgi_dbconn.types import ASGIApp, Lifetime, LifetimeFactory, Receive, Scope, Send

__all__ = ["LifespanMiddleware"]

# uvicorn and granian hold their lifespan task in a local variable only. If everything that the task
# awaits is referenced from its own frame alone, the garbage collector ends it while it runs.
_kept_alive: Final[set[asyncio.Task[Any]]] = set()


class LifespanMiddleware:
    """A wrapper of ``app``; ``registry`` is entered before its startup and left after its shutdown.

    ``registry`` is a Registry, a Database, any async context manager that may be entered again
    afterwards, or a function that returns one. Connecting comes first and disconnecting last, so
    the application's own startup and shutdown code can query. With ``handle_lifespan=True`` the
    application never sees a lifespan scope. Otherwise the scope is passed to it, and if it has no
    lifespan of its own (Django), the events are synthesised.

    ``include`` lists mounted applications, whose lifespans frameworks do not run. They start after
    ``app``, in order, each with a state of its own, and stop before it, in reverse.

    Every failure ends in one ``lifespan.startup.failed`` or ``lifespan.shutdown.failed`` with a
    reason, is raised out of the lifespan call, and leaves nothing open. ``shutdown_timeout``
    (seconds) limits leaving ``registry`` and stopping each included application; with None only
    their own limits apply.

    ``without_lifespan`` is for a request that comes without any lifespan before: ``"warn"`` once,
    ``"connect"`` at the first request of each loop until that loop ends, ``"error"`` for each
    request, or ``"ignore"``.

    Attributes of ``app`` are found on the wrapper, with their current values. One wrapper may serve
    several lifespans, one after another or one per loop.
    """

    def __init__(
        self,
        app: ASGIApp,
        registry: Lifetime | LifetimeFactory,
        *,
        handle_lifespan: bool = False,
        without_lifespan: WithoutLifespan = "warn",
        include: Sequence[ASGIApp] = (),
        shutdown_timeout: float | None = None,
    ) -> None:
        for application in (app, *include):
            if not callable(application):
                raise ConfigurationError(
                    "LifespanMiddleware wraps ASGI applications, not "
                    f"{type(application).__name__}. Write models.asgi(app)."
                )
        if not (hasattr(registry, "__aenter__") or callable(registry)):
            raise ConfigurationError(
                "The registry is an async context manager or a function returning one, not "
                f"{type(registry).__name__}."
            )
        self.app = app
        self.registry = registry
        self._handle_lifespan = handle_lifespan
        self._include = tuple(include)
        self._shutdown_timeout = shutdown_timeout
        self._missing_lifespan = MissingLifespanPolicy(without_lifespan, self._lifetime)
        self._running_lifespans = 0
        self._lock = threading.Lock()
        self._update_request_app()
        # Servers find out whether this is ASGI 3 by asking if `app.__call__` is a coroutine
        # function. That of the class is not one, so that requests pay no extra frame; this
        # attribute is for the servers' question.
        self.__dict__["__call__"] = self._call_as_coroutine
        self._asgi_single_callable = True  # asgiref's own mark

    def __call__(self, scope: Any, receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        # On the path of each request. It returns the application's own awaitable: an `await` here
        # would be run through again each time that the application suspends. Only one attribute is
        # read, because reading one is slow in a class with `__getattr__`.
        if scope["type"] == "lifespan":
            return self._run_lifespan(scope, receive, send)
        return self._request_app(scope, receive, send)

    async def _call_as_coroutine(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self(scope, receive, send)

    async def _check_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._running_lifespans == 0:
            is_connected = getattr(self.registry, "is_connected", False)
            await self._missing_lifespan.handle_request(is_connected=is_connected)
        self._update_request_app()
        await self.app(scope, receive, send)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = LifespanCycle(
            None if self._handle_lifespan else self.app,
            self._lifetime(),
            IncludedApps(self._include, scope, self._shutdown_timeout),
            scope,
            receive,
            send,
            self._shutdown_timeout,
        )
        task = _current_task()
        if task is not None:
            _kept_alive.add(task)
        self._count(+1)
        try:
            await cycle.run()
        finally:
            self._count(-1)
            if task is not None:
                _kept_alive.discard(task)

    def _count(self, change: int) -> None:
        with self._lock:  # a threaded server has one lifespan per loop
            self._running_lifespans += change
        self._update_request_app()

    def _update_request_app(self) -> None:
        """Send requests straight to the application, once none of them needs to be checked."""
        is_checked = self._running_lifespans == 0 and not self._missing_lifespan.is_finished
        request_app: Any = self._check_request if is_checked else self.app
        self._request_app: Callable[..., Coroutine[Any, Any, None]] = request_app

    def _lifetime(self) -> AbstractAsyncContextManager[Any]:
        registry: Any = self.registry
        manager: AbstractAsyncContextManager[Any] = (
            registry if hasattr(registry, "__aenter__") else registry()
        )
        return manager

    def __getattr__(self, name: str) -> Any:
        if name == "app":  # not set yet: copying and unpickling read attributes before __init__
            raise AttributeError(name)
        return getattr(self.app, name)

    def __repr__(self) -> str:
        return f"<LifespanMiddleware {self.registry!r} around {self.app!r}>"


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # trio: the cycle says so to the server
        return None
