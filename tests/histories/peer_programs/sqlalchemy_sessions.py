"""Plain SQLAlchemy: an AsyncSession for each unit of work, as its documentation has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import BigInteger, CursorResult, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.histories.peer_programs.serving import SLOW_SQL, PeerRunner, serve

_session: ContextVar[AsyncSession | None] = ContextVar("session", default=None)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    value: Mapped[int] = mapped_column(BigInteger)


class Counter(Base):
    __tablename__ = "counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]


class SQLAlchemyRunner(PeerRunner):
    async def connect(self, url: str, pool_size: int) -> None:
        url = url.replace("postgresql://", "postgresql+asyncpg://")
        self._engine = create_async_engine(
            url, pool_size=pool_size, max_overflow=0, pool_timeout=3.0
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def disconnect(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        outer = _session.get()
        if outer is not None:
            async with outer.begin_nested():
                yield
            return
        async with self._sessions.begin() as session:
            token = _session.set(session)
            try:
                yield
            finally:
                _session.reset(token)

    @asynccontextmanager
    async def _current(self) -> AsyncIterator[AsyncSession]:
        session = _session.get()
        if session is not None:
            yield session
            return
        async with self._sessions.begin() as session:
            yield session

    async def create(self, token: str, value: int) -> None:
        async with self._current() as session:
            session.add(Item(token=token, value=value))
            await session.flush()

    async def update(self, token: str, value: int) -> int:
        return await self._affected(update(Item).where(Item.token == token).values(value=value))

    async def remove(self, token: str) -> int:
        return await self._affected(delete(Item).where(Item.token == token))

    async def _affected(self, statement: Any) -> int:
        async with self._current() as session:
            result = await session.execute(statement)
            return result.rowcount if isinstance(result, CursorResult) else 0

    async def increment(self, counter: int) -> None:
        await self._affected(
            update(Counter).where(Counter.id == counter).values(total=Counter.total + 1)
        )

    async def read_counter(self, counter: int) -> int:
        async with self._current() as session:
            query = select(Counter.total).where(Counter.id == counter).with_for_update()
            return (await session.execute(query)).scalar_one()

    async def write_counter(self, counter: int, value: int) -> None:
        await self._affected(update(Counter).where(Counter.id == counter).values(total=value))

    async def get(self, token: str) -> int | None:
        async with self._current() as session:
            query = select(Item.value).where(Item.token == token)
            return (await session.execute(query)).scalar_one_or_none()

    async def count(self) -> int:
        async with self._current() as session:
            return (await session.execute(select(func.count()).select_from(Item))).scalar_one()

    async def slow(self, seconds: float) -> None:
        async with self._current() as session:
            await session.execute(text(SLOW_SQL.format(seconds=seconds)))


if __name__ == "__main__":
    serve(SQLAlchemyRunner)
