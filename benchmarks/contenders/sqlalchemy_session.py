"""SQLAlchemy's sessions: as its guide for asyncio has them, or with our pool's defaults by hand."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import DateTime, Text, func, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import CONNECTIONS, PAGE

_TUNING: Final[dict[str, Any]] = {
    "pool_size": CONNECTIONS,
    "max_overflow": 0,
    "isolation_level": "AUTOCOMMIT",
}


class Base(DeclarativeBase):
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


class _Sessions:
    def __init__(self, open_session: async_sessionmaker[AsyncSession]) -> None:
        self._open_session = open_session

    async def get(self, key: int) -> Any:
        async with self._open_session() as session:
            return await session.get_one(User, key)

    async def page(self) -> Sequence[Any]:
        async with self._open_session() as session:
            return (await session.scalars(select(User).order_by(User.id).limit(PAGE))).all()

    async def create(self, values: dict[str, Any]) -> int:
        user = User(**values)
        async with self._open_session.begin() as session:
            session.add(user)
        return user.id

    async def update(self, key: int, age: int) -> object:
        async with self._open_session.begin() as session:
            return await session.execute(update(User).where(User.id == key).values(age=age))

    async def count(self) -> int:
        async with self._open_session() as session:
            statement = select(func.count()).select_from(User)
            return (await session.execute(statement)).scalar_one()


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[_Sessions]:
    options = _TUNING if "tuned" in sys.argv[2:] else {}
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), **options)
    try:
        yield _Sessions(async_sessionmaker(engine, expire_on_commit=False))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    serve(_opened, ["sqlalchemy", "asyncpg"])
