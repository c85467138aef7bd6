"""FastAPI: as Starlette, and it has kept the startup and shutdown hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware import Middleware

from asgi_dbconn import LifespanMiddleware
from tests.frameworks.parts import Framework, Hook, Parts


class FastAPIAdapter(Framework):
    name = "fastapi"
    yields_state = True
    has_hooks = True
    middleware_sees_lifespan = True
    has_mounts = True

    def app(self, parts: Parts) -> Any:
        return self._with_routes(parts, FastAPI(lifespan=parts.lifespan()))

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        app = FastAPI(on_startup=list(on_startup), on_shutdown=list(on_shutdown))
        return self._with_routes(parts, app)

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        added = self.app(parts)
        added.add_middleware(LifespanMiddleware, registry=registry, **options)
        middleware = Middleware(LifespanMiddleware, registry, **options)
        given = FastAPI(lifespan=parts.lifespan(), middleware=[middleware])
        return {"add_middleware": added, "Middleware": self._with_routes(parts, given)}

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        app = self.app(parts)
        app.mount("/mounted", mounted)
        return app

    def _with_routes(self, parts: Parts, app: FastAPI) -> FastAPI:
        @app.get("/users")
        async def users() -> list[str]:
            return await parts.names()

        @app.get("/state")
        async def state(request: Request) -> str:
            return str(request.state.greeting)

        return app
