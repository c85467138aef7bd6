"""Users who write posts, on any database, and one whose row is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_dbconn import Registry
from tests.models import Cast, make_cast

__all__ = ["people", "vanished"]


@asynccontextmanager
async def people(url: str, **options: Any) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url, **options))
    async with cast.models:
        await cast.models.create_all()
        yield cast


async def vanished(cast: Cast) -> Any:
    """An object whose row somebody else has deleted."""
    user = await cast.User.query.create(id=77, name="gone")
    assert await cast.User.query.filter(name="gone").delete() == 1
    return user
