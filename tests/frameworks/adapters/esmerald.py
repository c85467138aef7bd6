"""Esmerald and Ravyn, its new name: the same words, and both keep the lifespan from middleware."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from lilya.middleware import DefineMiddleware
from lilya.requests import Request
from lilya.responses import JSONResponse

from asgi_dbconn import LifespanMiddleware
from tests.frameworks.parts import Framework, Hook, Parts


class EsmeraldAdapter(Framework):
    name = "esmerald"
    yields_state = True
    keeps_server_state = False
    has_hooks = True
    middleware_sees_lifespan = False
    has_mounts = True
    application: ClassVar = "Esmerald"

    def app(self, parts: Parts, **options: Any) -> Any:
        return self._make(parts, lifespan=parts.lifespan(), **options)

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        return self._make(parts, on_startup=list(on_startup), on_shutdown=list(on_shutdown))

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        middleware = DefineMiddleware(LifespanMiddleware, registry=registry, **options)
        return {"DefineMiddleware": self.app(parts, middleware=[middleware])}

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        module = importlib.import_module(self.name)
        return self.app(parts, routes=[module.Include("/mounted", app=mounted)])

    def _make(self, parts: Parts, *, routes: Sequence[Any] = (), **options: Any) -> Any:
        # By name, because only one of the two is installed.
        module = importlib.import_module(self.name)

        async def users() -> JSONResponse:
            return JSONResponse(await parts.names())

        async def state(request: Request) -> JSONResponse:
            return JSONResponse(request.scope["state"].get("greeting", "no greeting"))

        for handler in (users, state):  # read at run time, where these names are not known
            handler.__annotations__ = {"return": JSONResponse}
        state.__annotations__["request"] = module.Request
        own = [
            module.Gateway(handler=module.get("/users")(users)),
            module.Gateway(handler=module.get("/state")(state)),
        ]
        return getattr(module, self.application)(
            routes=[*own, *routes], enable_openapi=False, **options
        )


class RavynAdapter(EsmeraldAdapter):
    name = "ravyn"
    keeps_server_state = True
    application = "Ravyn"
