"""Edgy, on databasez."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import edgy  # type: ignore[import-not-found]

from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import CONNECTIONS, PAGE

_url = urlsplit(sys.argv[1])._replace(scheme="postgresql+asyncpg").geturl()
models = edgy.Registry(edgy.Database(_url, pool_size=CONNECTIONS, max_overflow=0))


class User(edgy.Model):  # type: ignore[misc]
    id = edgy.IntegerField(primary_key=True, autoincrement=True)
    name = edgy.TextField()
    email = edgy.TextField(unique=True)
    is_active = edgy.BooleanField()
    age = edgy.IntegerField()
    score = edgy.FloatField()
    joined_at = edgy.DateTimeField()
    about = edgy.TextField()

    class Meta:
        registry = models
        tablename = "users"


class _Models:
    async def get(self, key: int) -> Any:
        return await User.query.get(id=key)

    async def page(self) -> Sequence[Any]:
        users: Sequence[Any] = await User.query.order_by("id").limit(PAGE)
        return users

    async def create(self, values: dict[str, Any]) -> int:
        key: int = (await User.query.create(**values)).id
        return key

    async def update(self, key: int, age: int) -> object:
        return await User.query.filter(id=key).update(age=age)

    async def count(self) -> int:
        total: int = await User.query.count()
        return total


@asynccontextmanager
async def _opened(_: str) -> AsyncIterator[_Models]:
    async with models:
        yield _Models()


if __name__ == "__main__":
    serve(_opened, ["edgy", "databasez", "sqlalchemy", "asyncpg"])
