"""Tortoise ORM, on asyncpg."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tortoise import Tortoise, fields  # type: ignore[import-not-found]
from tortoise.models import Model  # type: ignore[import-not-found]

from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import CONNECTIONS, PAGE


class User(Model):  # type: ignore[misc]
    id = fields.IntField(primary_key=True)
    name = fields.TextField()
    email = fields.CharField(max_length=200, unique=True)  # it has no unique text
    is_active = fields.BooleanField()
    age = fields.IntField()
    score = fields.FloatField()
    joined_at = fields.DatetimeField()
    about = fields.TextField()

    class Meta:
        table = "users"


class _Models:
    async def get(self, key: int) -> Any:
        return await User.get(id=key)

    async def page(self) -> Sequence[Any]:
        users: Sequence[Any] = await User.all().order_by("id").limit(PAGE)
        return users

    async def create(self, values: dict[str, Any]) -> int:
        key: int = (await User.create(**values)).id
        return key

    async def update(self, key: int, age: int) -> object:
        return await User.filter(id=key).update(age=age)

    async def count(self) -> int:
        total: int = await User.all().count()
        return total


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[_Models]:
    server = f"asyncpg://{urlsplit(url).netloc}{urlsplit(url).path}"
    pool = f"minsize={CONNECTIONS}&maxsize={CONNECTIONS}"
    await Tortoise.init(db_url=f"{server}?{pool}", modules={"models": [__name__]})
    try:
        yield _Models()
    finally:
        await Tortoise.close_connections()


if __name__ == "__main__":
    serve(_opened, ["tortoise-orm", "asyncpg"])
