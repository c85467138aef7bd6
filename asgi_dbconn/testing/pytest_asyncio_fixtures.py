"""The fixtures for tests that pytest-asyncio runs, one for each of its loop scopes.

A fixture of pytest-asyncio has a fixed loop scope, which is written in its decorator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from asgi_dbconn.testing import lazy_imports
from asgi_dbconn.testing.fixtures import LOOP_SCOPES, LoopScope, fixture_name

if TYPE_CHECKING:
    import httpx

    from asgi_dbconn.registry.registry import Registry
    from asgi_dbconn.types import ASGIApp

__all__ = ["client_on_loop_of", "rollback_on_loop_of"]


def rollback_on_loop_of(scope: LoopScope) -> Any:
    """Return the rollback fixture for tests on a loop of ``scope``."""
    name = fixture_name("rollback", f"loop_of_{scope}")

    @pytest_asyncio.fixture(loop_scope=scope, name=name)
    async def rollback(dbconn_registry: Registry) -> AsyncIterator[None]:
        async with dbconn_registry.rollback():
            yield

    return rollback


def client_on_loop_of(scope: LoopScope) -> Any:
    """Return the client fixture for tests on a loop of ``scope``."""
    name = fixture_name("client", f"loop_of_{scope}")

    @pytest_asyncio.fixture(loop_scope=scope, name=name)
    async def client(dbconn_app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
        async with lazy_imports.run_app(dbconn_app) as client:
            yield client

    return client


# pytest looks for fixtures among the names of a module.
for _scope in LOOP_SCOPES:
    globals()[f"rollback_{_scope}"] = rollback_on_loop_of(_scope)
    globals()[f"client_{_scope}"] = client_on_loop_of(_scope)
