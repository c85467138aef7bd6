"""ASGI applications without any framework: one with a lifespan, one that looks at requests only."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.frameworks.parts import Framework, Parts


class _Application:
    def __init__(self, parts: Parts, *, mounted: Any = None) -> None:
        self.debug = False
        self._parts = parts
        self._mounted = mounted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kinds: dict[str, Callable[..., Awaitable[None]]]
        kinds = {"http": self._answer, "lifespan": self._live}
        await kinds[scope["type"]](scope, receive, send)

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self._parts.startup()  # a failure is raised, without a word to the server
        if self._parts.state is not None:
            scope["state"].update(self._parts.state)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._parts.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if self._mounted is not None and scope["path"].startswith("/mounted/"):
            path = scope["path"].removeprefix("/mounted")
            await self._mounted({**scope, "path": path}, receive, send)
            return
        answer = (
            scope["state"]["greeting"] if scope["path"] == "/state" else await self._parts.names()
        )
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


class _Silent(_Application):
    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        return  # without a word


class Plain(Framework):
    name = "plain"
    yields_state = True
    has_mounts = True

    def app(self, parts: Parts) -> Any:
        return _Application(parts)

    def with_mounted(self, parts: Parts, mounted: Any) -> Any:
        return _Application(parts, mounted=mounted)


class Bare(Framework):
    name = "bare"
    has_lifespan = False

    def app(self, parts: Parts) -> Any:
        return _Silent(parts)
