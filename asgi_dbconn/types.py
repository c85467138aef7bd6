"""Types of the outside world: ASGI callables, and the interface of a registry for a middleware.

They are below everything else, so that no layer needs a higher one to annotate its arguments.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

__all__ = ["ASGIApp", "Lifetime", "LifetimeFactory", "Message", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application. The arguments are deliberately ``Any``: each framework has types of its own
for scope, receive and send."""


class Lifetime(Protocol):
    """A context that is open between startup and shutdown.

    It can be entered again afterwards. One application object may have several lifespans in one
    process: a test client entered twice, a serverless adapter, or a server with a loop per thread.
    """

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *exc_info: Any) -> Any: ...


LifetimeFactory = Callable[[], AbstractAsyncContextManager[Any]]
