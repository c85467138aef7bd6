"""One application's databases and its startup and shutdown code, watched by a server's eyes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from asgi_dbconn import Registry
from asgi_dbconn.testing import LifespanDriver
from asgi_dbconn.types import Message
from tests.frameworks.parts import Framework, Parts
from tests.models import make_cast

GOOD_LIFE: Final = (
    "lifespan.startup, disconnected",
    "startup code",
    "lifespan.startup.complete, connected",
    "lifespan.shutdown, connected",
    "shutdown code",
    "lifespan.shutdown.complete, disconnected",
)
SILENT_LIFE: Final = tuple(step for step in GOOD_LIFE if "code" not in step)

_LIMIT: Final = 20.0
"""Seconds that a life may take; each takes milliseconds where nothing hangs."""


class Life:
    """A registry, code for startup and shutdown that queries it, and the story of all of it.

    A query of unconnected databases would raise: the suite makes errors of warnings.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.models = Registry(url, **options)
        self.cast = make_cast(self.models)  # kept, because SQLAlchemy holds classes weakly
        self.User = self.cast.User
        self.story: list[str] = []
        self.said: list[Message] = []
        self.startup_fails: Exception | None = None
        self.shutdown_fails: Exception | None = None

    async def prepare(self) -> None:
        """Create the table and one user, for applications without startup code."""
        async with self.models:
            await self._create()

    async def startup(self) -> None:
        self.story.append("startup code")
        await self._create()
        if self.startup_fails is not None:
            raise self.startup_fails

    async def shutdown(self) -> None:
        self.story.append("shutdown code")
        assert await self.User.query.count() == 1
        if self.shutdown_fails is not None:
            raise self.shutdown_fails

    async def _create(self) -> None:
        await self.models.create_all()
        if not await self.User.query.exists():
            await self.User.query.create(name="ada")

    def parts(self, **more: Any) -> Parts:
        return Parts(self.User, **{"startup": self.startup, "shutdown": self.shutdown, **more})

    def app(self, framework: Framework) -> Any:
        return framework.app(self.parts())

    async def live(
        self,
        app: Any,
        *,
        serve: Callable[[], Awaitable[None]] | None = None,
        send_fails: Exception | None = None,
        **scope: Any,
    ) -> Exception | None:
        """A server's startup, what ``serve`` does, and its shutdown; gives what ``app`` raised.

        Notes each message, and whether the registry is connected at that moment.
        """
        asks = ["lifespan.startup", "lifespan.shutdown"]

        async def receive() -> Message:
            if not asks or (self.said and "failed" in self.said[-1]["type"]):
                await asyncio.Event().wait()
            kind = asks.pop(0)
            if serve is not None and kind == "lifespan.shutdown":
                await serve()
            self._note(kind)
            return {"type": kind}

        async def send(message: Message) -> None:
            self._note(message["type"])
            self.said.append(message)
            if send_fails is not None:
                raise send_fails

        try:
            async with asyncio.timeout(_LIMIT):
                await app({"type": "lifespan", **scope}, receive, send)
        except Exception as error:
            return error
        return None

    def _note(self, kind: str) -> None:
        state = "connected" if self.models.is_connected else "disconnected"
        self.story.append(f"{kind}, {state}")


def client(app: Any) -> httpx.AsyncClient:
    """A client that sends requests only, no lifespan."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of ``app`` between its startup and its shutdown."""
    driver = LifespanDriver(app)
    async with driver, client(driver.app) as http:
        yield http
