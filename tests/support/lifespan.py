"""An application run in the test's own loop, with its lifespan, as a server would run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of ``app`` between its startup and its shutdown; raises what the lifespan raises."""
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    life = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, to_app.get, from_app.put)
    )

    async def say(word: str) -> None:
        await to_app.put({"type": f"lifespan.{word}"})
        answer = asyncio.create_task(from_app.get())
        await asyncio.wait({answer, life}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await life
            raise RuntimeError(f"the application ended instead of answering to {word}")
        if answer.result()["type"] != f"lifespan.{word}.complete":
            await life
            raise RuntimeError(f"the application answered {answer.result()}")

    await say("startup")
    try:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client
    finally:
        await say("shutdown")
        await life
