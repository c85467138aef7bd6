"""The ways to read that are compared: the driver, SQLAlchemy by its own guide, and ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncpg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

__all__ = ["MANY", "Reader", "driver_pool", "key_of", "query_sets", "sessions"]

MANY: Final = 100


class Reader(Protocol):
    """What an application does with its users' table, each time by itself."""

    async def get(self, key: int) -> Any:
        """The user with this primary key."""
        ...

    async def many(self) -> Sequence[Any]:
        """The first users, in the order of their keys."""
        ...


def key_of(user: Any) -> int:
    """The primary key of what a reader returned; for checking that all did the same work."""
    key: int = user["id"] if isinstance(user, asyncpg.Record) else user.id
    return key


@dataclass(frozen=True, slots=True)
class _DriverPool:
    pool: asyncpg.Pool[asyncpg.Record]

    async def get(self, key: int) -> Any:
        return await self.pool.fetchrow("SELECT id, name, age FROM users WHERE id = $1", key)

    async def many(self) -> Sequence[Any]:
        return await self.pool.fetch("SELECT id, name, age FROM users ORDER BY id LIMIT $1", MANY)


@dataclass(frozen=True, slots=True)
class _Sessions:
    open_session: async_sessionmaker[AsyncSession]
    user: Any

    async def get(self, key: int) -> Any:
        async with self.open_session() as session:
            return await session.get_one(self.user, key)

    async def many(self) -> Sequence[Any]:
        async with self.open_session() as session:
            found = await session.scalars(select(self.user).order_by(self.user.id).limit(MANY))
            return found.all()


@dataclass(frozen=True, slots=True)
class _QuerySets:
    user: Any

    async def get(self, key: int) -> Any:
        return await self.user.query.get(key)

    async def many(self) -> Sequence[Any]:
        users: Sequence[Any] = await self.user.query.order_by("id").limit(MANY)
        return users


@asynccontextmanager
async def driver_pool(url: str) -> AsyncIterator[Reader]:
    """asyncpg's own pool, with its own defaults: rows, not objects."""
    async with asyncpg.create_pool(url) as pool:
        yield _DriverPool(pool)


@asynccontextmanager
async def sessions(url: str, user: Any, **options: Any) -> AsyncIterator[Reader]:
    """SQLAlchemy's sessions, as its guide for asyncio has them."""
    engine = create_async_engine(url, **options)
    try:
        yield _Sessions(async_sessionmaker(engine, expire_on_commit=False), user)
    finally:
        await engine.dispose()


def query_sets(user: Any) -> Reader:
    """Our queries, with or without a connected database: the model knows."""
    return _QuerySets(user)
