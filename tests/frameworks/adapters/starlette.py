"""Starlette: a lifespan function, middleware that sees the lifespan, mounts; no hooks since 1.0."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from asgi_dbconn import LifespanMiddleware
from tests.frameworks.parts import Framework, Parts


class StarletteAdapter(Framework):
    name = "starlette"
    yields_state = True
    middleware_sees_lifespan = True
    has_mounts = True

    def app(self, parts: Parts, **options: Any) -> Any:
        async def users(request: Request) -> JSONResponse:
            return JSONResponse(await parts.names())

        async def state(request: Request) -> JSONResponse:
            return JSONResponse(request.state.greeting)

        routes = [Route("/users", users), Route("/state", state), *options.pop("routes", [])]
        return Starlette(routes=routes, lifespan=parts.lifespan(), **options)

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        added = self.app(parts)
        added.add_middleware(LifespanMiddleware, registry=registry, **options)
        middleware = Middleware(LifespanMiddleware, registry, **options)
        return {"add_middleware": added, "Middleware": self.app(parts, middleware=[middleware])}

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        return self.app(parts, routes=[Mount("/mounted", app=mounted)])
