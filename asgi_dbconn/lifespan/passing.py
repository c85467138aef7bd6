"""The request path through a middleware: one comparison, one call, and nothing else.

A class with ``__getattr__`` has slow attributes, all of them: reading ``self.app`` would be a large
part of what a wrapper adds to a request. A variable of a closure costs next to nothing, but Python
looks ``__call__`` up on the class; so each wrapper gets a class of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgi_dbconn.types import ASGIApp, Receive, Scope, Send

__all__ = ["give_fast_call"]


def give_fast_call(wrapper: Any, app: ASGIApp, attend: ASGIApp) -> Callable[[bool], None]:
    """Make ``wrapper`` call ``attend`` for each request, or pass it straight on to ``app``.

    Returns the switch between the two; requests are attended until it is called. A lifespan is
    always attended.
    """
    on = attend

    def call(_: Any, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan":
            return on(scope, receive, send)
        return attend(scope, receive, send)

    def pass_requests_on(passes: bool) -> None:  # noqa: FBT001 - a switch has two positions
        nonlocal on
        on = app if passes else attend

    kind = type(wrapper)
    names = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    wrapper.__class__ = type(kind.__name__, (kind,), names)
    return pass_requests_on
