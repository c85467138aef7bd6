"""Quart: hooks; a startup that failed is reported, and then it listens on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Quart, Response, jsonify

from asgi_dbconn import LifespanMiddleware
from tests.frameworks.parts import Framework, Hook, Parts


class QuartAdapter(Framework):
    name = "quart"
    raises = "nothing"
    has_hooks = True
    middleware_sees_lifespan = True

    def app(self, parts: Parts) -> Any:
        # Not `while_serving`: its generators are made once, so the application could live once.
        return self.with_hooks(parts, [parts.startup], [parts.shutdown])

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        app = self._make(parts)
        for hook in on_startup:
            app.before_serving(hook)
        for hook in on_shutdown:
            app.after_serving(hook)
        return app

    def with_middleware(self, parts: Parts, registry: Any, **options: Any) -> dict[str, Any]:
        app: Any = self.app(parts)
        app.asgi_app = LifespanMiddleware(app.asgi_app, registry, **options)
        return {"asgi_app": app}

    def _make(self, parts: Parts) -> Quart:
        app = Quart(__name__)

        @app.get("/users")
        async def users() -> Response:
            return jsonify(await parts.names())

        return app
