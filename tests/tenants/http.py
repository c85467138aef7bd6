"""A client of an ASGI application, without a server in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx


@asynccontextmanager
async def client(app: Any, *, raising: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """With ``raising=False`` an error is what a client of a real server gets to see: its status."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=raising)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
