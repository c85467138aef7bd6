"""Each wrapper of the field as the checks want it: used as its documentation says.

An adapter adds nothing to its wrapper and takes nothing away; what a wrapper has no argument for is
`NotOffered`, which the report shows as "n/a" and does not count.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, Final

from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.testing.conformance import Wrapper
from asgi_dbconn.types import ASGIApp

__all__ = ["ADAPTERS", "NotOffered", "Watched"]


class NotOffered(Exception):
    """The wrapper does not have the feature that the scenario is about."""


def ours(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
    """`asgi_dbconn.LifespanMiddleware`, with no option but the one that is asked for."""
    return LifespanMiddleware(app, lifetime, handle_lifespan=handle_lifespan)


def monkay(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
    """`LifespanHook` with a setup that returns an exit stack, as edgy and databasez use it."""
    from monkay.asgi import LifespanHook

    async def setup() -> AsyncExitStack:
        stack = AsyncExitStack()
        await stack.enter_async_context(lifetime)
        return stack

    wrapped: Any = LifespanHook(app, setup=setup, do_forward=not handle_lifespan)
    hooked: ASGIApp = wrapped
    return hooked


def databasez(app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
    """`ASGIHelper` around a database; of a database it uses `connect` and `disconnect` alone."""
    from databasez.core.asgi import ASGIHelper  # type: ignore[import-not-found]

    class Database:
        async def connect(self) -> None:
            await lifetime.__aenter__()

        async def disconnect(self) -> None:
            await lifetime.__aexit__(None, None, None)

    helper: ASGIApp = ASGIHelper(app, Database(), handle_lifespan=handle_lifespan)
    return helper


def asgi_lifespan_middleware(
    app: Any, lifetime: Any, /, *, handle_lifespan: bool = False
) -> ASGIApp:
    """`LifespanMiddleware(app, lifespan=...)`; it always asks the application."""
    from asgi_lifespan_middleware import (  # type: ignore[import-not-found]
        LifespanMiddleware as Middleware,
    )

    if handle_lifespan:
        raise NotOffered("asgi-lifespan-middleware has no handle_lifespan")
    middleware: ASGIApp = Middleware(app, lifespan=lambda app: lifetime)
    return middleware


ADAPTERS: Final[dict[str, Wrapper]] = {
    "ours": ours,
    "monkay": monkay,
    "databasez": databasez,
    "asgi-lifespan-middleware": asgi_lifespan_middleware,
}


class Watched:
    """An adapter that remembers whether it was asked for something that it does not offer."""

    def __init__(self, adapter: Wrapper) -> None:
        self._adapter = adapter
        self.missing = ""

    def __call__(self, app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
        try:
            return self._adapter(app, lifetime, handle_lifespan=handle_lifespan)
        except NotOffered as error:
            self.missing = str(error)
            raise
