"""A registry that is connected, with its tables, for the length of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asgi_dbconn import Registry
from tests.models import Cast, make_cast


@asynccontextmanager
async def connected(url: str, **options: int) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url, **options))  # type: ignore[arg-type]
    async with cast.models:
        await cast.models.create_all()
        yield cast


@asynccontextmanager
async def rolled_back(cast: Cast) -> AsyncIterator[None]:
    """Isolated inside the block; nothing may have changed by its end."""
    before = await names(cast)
    async with cast.models.rollback():
        yield
    assert await names(cast) == before


async def add_in_vain(cast: Cast, name: str) -> None:
    """A user in a transaction of its own, which is rolled back."""
    with pytest.raises(KeyError):
        async with cast.models.transaction():
            await cast.User.query.create(name=name)
            raise KeyError


async def names(cast: Cast) -> list[str]:
    """The names of all users."""
    return [user.name for user in await cast.User.query.order_by("name")]
