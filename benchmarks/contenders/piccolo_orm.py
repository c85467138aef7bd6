"""Piccolo, with its connection pool."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from piccolo.columns import (  # type: ignore[import-not-found]
    Boolean,
    DoublePrecision,
    Integer,
    Serial,
    Text,
    Timestamptz,
)
from piccolo.engine.postgres import PostgresEngine  # type: ignore[import-not-found]
from piccolo.table import Table  # type: ignore[import-not-found]

from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import CONNECTIONS, PAGE

engine = PostgresEngine(config={"dsn": sys.argv[1]})


class User(Table, tablename="users", db=engine):  # type: ignore[misc, call-arg]
    id = Serial(primary_key=True)
    name = Text()
    email = Text(unique=True)
    is_active = Boolean()
    age = Integer()
    score = DoublePrecision()
    joined_at = Timestamptz()
    about = Text()


class _Tables:
    async def get(self, key: int) -> Any:
        return await User.objects().get(User.id == key)

    async def page(self) -> Sequence[Any]:
        users: Sequence[Any] = await User.objects().order_by(User.id).limit(PAGE)
        return users

    async def create(self, values: dict[str, Any]) -> int:
        key: int = (await User.objects().create(**values)).id
        return key

    async def update(self, key: int, age: int) -> object:
        return await User.update({User.age: age}).where(User.id == key)

    async def count(self) -> int:
        total: int = await User.count()
        return total


@asynccontextmanager
async def _opened(_: str) -> AsyncIterator[_Tables]:
    await engine.start_connection_pool(min_size=CONNECTIONS, max_size=CONNECTIONS)
    try:
        yield _Tables()
    finally:
        await engine.close_connection_pool()


if __name__ == "__main__":
    serve(_opened, ["piccolo", "asyncpg"])
