"""Ours, as the README has it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, Registry
from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import CONNECTIONS, PAGE

models = Registry(sys.argv[1], pool_size=CONNECTIONS)


class Base(Queryable, DeclarativeBase, registry=models):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text, unique=True)
    is_active: Mapped[bool]
    age: Mapped[int]
    score: Mapped[float]
    joined_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    about: Mapped[str] = mapped_column(Text)


class _Queries:
    async def get(self, key: int) -> Any:
        return await User.query.get(key)

    async def page(self) -> Sequence[Any]:
        return await User.query.order_by("id").limit(PAGE)

    async def create(self, values: dict[str, Any]) -> int:
        return (await User.query.create(**values)).id

    async def update(self, key: int, age: int) -> object:
        return await User.query.filter(id=key).update(age=age)

    async def count(self) -> int:
        return await User.query.count()


@asynccontextmanager
async def _opened(_: str) -> AsyncIterator[_Queries]:
    async with models:
        yield _Queries()


if __name__ == "__main__":
    serve(_opened, ["asgi-dbconn", "sqlalchemy", "asyncpg"])
