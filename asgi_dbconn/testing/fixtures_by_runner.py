"""The same fixtures for tests that anyio's plugin runs, and for those without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from asgi_dbconn.testing import lazy
from asgi_dbconn.testing.runners import fixture_name

if TYPE_CHECKING:
    import httpx

    from asgi_dbconn.registry.registry import Registry
    from asgi_dbconn.types import ASGIApp

__all__ = [
    "client_with_anyio",
    "client_without_loop",
    "rollback_with_anyio",
    "rollback_without_loop",
]


@pytest.fixture(name=fixture_name("rollback", "anyio"))
async def rollback_with_anyio(dbconn_registry: Registry) -> AsyncIterator[None]:
    """Roll back on the loop of anyio's test runner."""
    async with dbconn_registry.rollback():
        yield


@pytest.fixture(name=fixture_name("client", "anyio"))
async def client_with_anyio(dbconn_app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client on the loop of anyio's test runner."""
    async with lazy.served(dbconn_app) as client:
        yield client


@pytest.fixture(name=fixture_name("rollback", "no_loop"))
def rollback_without_loop(dbconn_registry: Registry) -> Iterator[None]:
    """Roll back around tests that call run_sync, as those of a WSGI application do."""
    with lazy.isolated(dbconn_registry):
        yield


@pytest.fixture(name=fixture_name("client", "no_loop"))
def client_without_loop() -> None:
    """Say what to take instead."""
    pytest.fail(
        "dbconn_client is an async client, and this test is synchronous, or no plugin runs it. "
        "Write `async def` and a mark of your plugin, or take Starlette's TestClient: "
        "TestClient(LifespanMiddleware(app, models.rollback)).",
        pytrace=False,
    )
