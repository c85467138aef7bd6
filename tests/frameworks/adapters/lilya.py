"""Lilya, which Esmerald and Ravyn are built on: hooks, and middleware that sees the lifespan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lilya.apps import Lilya
from lilya.middleware import DefineMiddleware
from lilya.requests import Request
from lilya.responses import JSONResponse
from lilya.routing import Include, Path

from asgi_dbconn import LifespanMiddleware
from tests.frameworks.parts import Framework, Hook, Parts


class LilyaAdapter(Framework):
    name = "lilya"
    yields_state = True
    has_hooks = True
    middleware_sees_lifespan = True
    has_mounts = True

    def app(self, parts: Parts, **options: Any) -> Any:
        return self._make(parts, lifespan=parts.lifespan(), **options)

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        return self._make(parts, on_startup=list(on_startup), on_shutdown=list(on_shutdown))

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        added = self.app(parts)
        added.add_middleware(LifespanMiddleware, registry=registry, **options)
        middleware = DefineMiddleware(LifespanMiddleware, registry=registry, **options)
        return {
            "add_middleware": added,
            "DefineMiddleware": self.app(parts, middleware=[middleware]),
        }

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        return self.app(parts, routes=[Include("/mounted", app=mounted)])

    def _make(self, parts: Parts, *, routes: Sequence[Any] = (), **options: Any) -> Any:
        async def users() -> JSONResponse:
            return JSONResponse(await parts.names())

        async def state(request: Request) -> JSONResponse:
            return JSONResponse(request.state.greeting)

        return Lilya(routes=[Path("/users", users), Path("/state", state), *routes], **options)
