"""The ways to a pooled connection that are compared: the driver's, SQLAlchemy's, and ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asgi_dbconn import Database

__all__ = ["DEFAULT", "DRIVER", "ENGINE", "RUN", "SIZE", "TUNED", "Borrower", "borrowers"]

DRIVER: Final = "asyncpg pool"
DEFAULT: Final = "SQLAlchemy"
TUNED: Final = "SQLAlchemy, tuned"
RUN: Final = "Database.run"
ENGINE: Final = "Database.engine"

SIZE: Final = 5
"""Connections in each pool; SQLAlchemy's default pool may open ten more."""

_ONE: Final = text("SELECT 1")


class Way(Protocol):
    """How an application comes by a connection, for one statement."""

    async def ask(self) -> Any:
        """Borrow a connection, and let it answer a statement."""
        ...

    async def borrow(self) -> None:
        """Borrow a connection and give it back, without a statement."""
        ...


@dataclass(frozen=True, slots=True)
class Borrower:
    """A pool in use, and the count of what it has opened."""

    way: Way
    connects: Callable[[], int]
    """Physical connections since the pool was made."""


class _Count:
    """What a pool calls for each connection that it has opened."""

    def __init__(self) -> None:
        self.opened = 0

    def __call__(self, *_: object) -> None:
        self.opened += 1

    async def init(self, _: object) -> None:
        """The same, as asyncpg wants it."""
        self.opened += 1


@dataclass(frozen=True, slots=True)
class _Driver:
    pool: asyncpg.Pool[asyncpg.Record]

    async def ask(self) -> Any:
        return await self.pool.fetchval("SELECT 1")

    async def borrow(self) -> None:
        async with self.pool.acquire():
            pass


@dataclass(frozen=True, slots=True)
class _Engine:
    engine: AsyncEngine

    async def ask(self) -> Any:
        async with self.engine.connect() as connection:
            return (await connection.execute(_ONE)).scalar_one()

    async def borrow(self) -> None:
        async with self.engine.connect():
            pass


@dataclass(frozen=True, slots=True)
class _Run:
    database: Database

    async def ask(self) -> Any:
        return await self.database.run(_one, autocommit=True)

    async def borrow(self) -> None:
        await self.database.run(_nothing, autocommit=True)


@asynccontextmanager
async def borrowers(url: str) -> AsyncIterator[Mapping[str, Borrower]]:
    """Every contender, new and open; each has answered once."""
    tuning = {"pool_size": SIZE, "max_overflow": 0, "isolation_level": "AUTOCOMMIT"}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        run = await enter(Database(url, pool_size=SIZE))
        engine = await enter(Database(url, pool_size=SIZE))
        found = {
            DRIVER: await enter(_driver(url)),
            DEFAULT: await enter(_sqlalchemy(url)),
            TUNED: await enter(_sqlalchemy(url, **tuning)),
            RUN: Borrower(_Run(run), lambda: run.stats().connects),
            ENGINE: Borrower(_Engine(engine.engine), lambda: engine.stats().connects),
        }
        for name, row in found.items():
            if await row.way.ask() != 1:
                raise RuntimeError(f"{name} does not get the answer that the others get")
        yield found


@asynccontextmanager
async def _driver(url: str) -> AsyncIterator[Borrower]:
    count = _Count()
    async with asyncpg.create_pool(url, min_size=SIZE, max_size=SIZE, init=count.init) as pool:
        yield Borrower(_Driver(pool), lambda: count.opened)


@asynccontextmanager
async def _sqlalchemy(url: str, **options: Any) -> AsyncIterator[Borrower]:
    count = _Count()
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), **options)
    event.listen(engine.sync_engine, "connect", count)
    try:
        yield Borrower(_Engine(engine), lambda: count.opened)
    finally:
        await engine.dispose()


def _one(connection: Connection) -> Any:
    return connection.execute(_ONE).scalar_one()


def _nothing(_: Connection) -> None:
    """To have been handed a connection is all."""
