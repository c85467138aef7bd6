"""An application that is running inside a test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.types import ASGIApp

if TYPE_CHECKING:
    import httpx

__all__ = ["served"]


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Start and stop ``app`` on this loop; requests go to ``http://testserver``."""
    try:
        import httpx
    except ImportError:
        pytest.fail("dbconn_client needs httpx: pip install httpx", pytrace=False)
    driver = LifespanDriver(app)
    async with driver:
        transport = httpx.ASGITransport(driver.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client
