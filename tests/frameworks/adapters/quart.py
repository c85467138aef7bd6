"""Quart: hooks and generators; a startup that failed is reported, and then it listens on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from quart import Quart, Response, jsonify

from tests.frameworks.parts import Framework, Hook, Parts


class QuartAdapter(Framework):
    name = "quart"
    raises_its_error = False
    has_hooks = True

    def app(self, parts: Parts) -> Any:
        app = self._make(parts)

        @app.while_serving
        async def lifespan() -> AsyncIterator[None]:
            await parts.startup()
            yield
            await parts.shutdown()

        return app

    def with_hooks(
        self, parts: Parts, on_startup: Sequence[Hook], on_shutdown: Sequence[Hook]
    ) -> Any:
        app = self._make(parts)
        for hook in on_startup:
            app.before_serving(hook)
        for hook in on_shutdown:
            app.after_serving(hook)
        return app

    def _make(self, parts: Parts) -> Quart:
        app = Quart(__name__)

        @app.get("/users")
        async def users() -> Response:
            return jsonify(await parts.names())

        return app
