"""A registry that is connected, with its tables, for the length of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgi_dbconn import Registry
from tests.cast import Cast, make_cast


@asynccontextmanager
async def connected(url: str, **options: int) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url, **options))  # type: ignore[arg-type]
    async with cast.models:
        await cast.models.create_all()
        yield cast


async def names(cast: Cast) -> list[str]:
    """The names of all users."""
    return [user.name for user in await cast.User.query.order_by("name")]
