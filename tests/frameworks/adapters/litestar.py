"""Litestar: lifespan functions, hooks, mounts; middleware does not see the lifespan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from litestar import Litestar, asgi, get
from litestar.middleware import DefineMiddleware

from asgi_dbconn import LifespanMiddleware
from tests.frameworks.parts import Framework, Hook, Parts


class LitestarAdapter(Framework):
    name = "litestar"
    raises = "a group"
    has_hooks = True
    middleware_sees_lifespan = False
    has_mounts = True

    def app(self, parts: Parts, **options: Any) -> Any:
        return self._make(parts, lifespan=[parts.lifespan()], **options)

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        return self._make(parts, on_startup=list(on_startup), on_shutdown=list(on_shutdown))

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        middleware = DefineMiddleware(cast("Any", LifespanMiddleware), registry=registry, **options)
        return {"DefineMiddleware": self.app(parts, middleware=[middleware])}

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        return self.app(parts, handlers=[asgi("/mounted", is_mount=True, copy_scope=True)(mounted)])

    def _make(self, parts: Parts, *, handlers: Sequence[Any] = (), **options: Any) -> Any:
        @get("/users")
        async def users() -> list[str]:
            return await parts.names()

        return Litestar(
            [users, *handlers],
            openapi_config=None,
            logging_config=None,  # it starts a thread, and takes the root logger's handlers
            **options,
        )
