"""The application under test: run on the test's loop, or isolated around synchronous code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest

from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.loops.default_loop import Environment
from asgi_dbconn.loops.managed_loop import ManagedLoop
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.registry.registry import Registry
from asgi_dbconn.types import ASGIApp

__all__ = ["run_app", "run_isolated"]

if TYPE_CHECKING:
    import httpx


@contextmanager
def run_isolated(registry: Registry) -> Iterator[None]:
    """Connect ``registry`` for the block, and roll back at the end, for any calling thread.

    The loop has a thread of its own. So ``models.wsgi(app)`` uses the same loop, and the threads of
    a test client reach it while the test waits for them.
    """
    own = ManagedLoop()
    try:
        own.start("tests")
    except BaseException:
        own.close()
        raise
    with Environment(own):
        isolation = registry.rollback()
        run_sync(isolation.__aenter__())
        try:
            yield
        finally:
            run_sync(isolation.__aexit__(None, None, None))


@asynccontextmanager
async def run_app(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
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
