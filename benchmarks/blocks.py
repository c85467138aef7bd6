"""The blocks that share one connection: ours, SQLAlchemy's, and the driver's.

Every block of a kind does the same to the same table: it begins, gets users by their primary keys
one after another, and ends well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle, islice
from typing import Any, Final

import asyncpg
from sqlalchemy import bindparam, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from asgi_dbconn import Registry
from tests.models import Cast, make_cast

__all__ = [
    "CONNECTION",
    "DRIVER",
    "ENGINE",
    "OURS",
    "SAVEPOINT",
    "SESSION",
    "SESSIONS",
    "SESSIONS_BEGIN",
    "TRANSACTION",
    "Blocks",
    "open_blocks",
]

CONNECTION: Final = "connection"
SESSION: Final = "session"
TRANSACTION: Final = "transaction"
SAVEPOINT: Final = "savepoint"

DRIVER: Final = "asyncpg pool, transaction"
ENGINE: Final = "SQLAlchemy engine.begin()"
SESSIONS: Final = "AsyncSession"
SESSIONS_BEGIN: Final = "AsyncSession, begin()"
OURS: Final = "asgi-dbconn"

USERS: Final = 1000
_POOL_SIZE: Final = 5
_STRIDE: Final = 389  # without a common factor with the number of users, so that each has a turn
_SQL: Final = "SELECT users.id, users.name, users.age FROM users WHERE users.id = $1"

Blocks = Callable[[int, int], Awaitable[None]]
"""Run so many blocks, one after another, with so many statements in each."""


class _Keys:
    """Primary keys without end, in no order that a cache could like."""

    def __init__(self) -> None:
        self._keys = cycle(1 + number * _STRIDE % USERS for number in range(USERS))

    def take(self, number: int) -> list[int]:
        return list(islice(self._keys, number))


class _Driver:
    """asyncpg's pool, which makes rows and no objects."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self._keys = _Keys()

    async def transaction(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._pool.acquire() as connection, connection.transaction():
                for key in self._keys.take(statements):
                    _check(key, await connection.fetchrow(_SQL, key))

    async def savepoint(self, blocks: int, statements: int) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            for _ in range(blocks):
                async with connection.transaction():
                    for key in self._keys.take(statements):
                        _check(key, await connection.fetchrow(_SQL, key))


class _Engine:
    """SQLAlchemy's engine, and the sessions of its users."""

    def __init__(self, engine: AsyncEngine, user: Any) -> None:
        self._engine = engine
        self._user = user
        self._select = _selection(user)
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._keys = _Keys()

    async def begin(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._engine.begin() as connection:
                for key in self._keys.take(statements):
                    _check(key, (await connection.execute(self._select, {"key": key})).one())

    async def session(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._sessions() as session:
                for key in self._keys.take(statements):
                    _check(key, await session.get_one(self._user, key))

    async def session_begin(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._sessions.begin() as session:
                for key in self._keys.take(statements):
                    _check(key, await session.get_one(self._user, key))

    async def nested(self, blocks: int, statements: int) -> None:
        async with self._engine.begin() as connection:
            for _ in range(blocks):
                async with connection.begin_nested():
                    for key in self._keys.take(statements):
                        _check(key, (await connection.execute(self._select, {"key": key})).one())

    async def session_nested(self, blocks: int, statements: int) -> None:
        async with self._sessions.begin() as session:
            for _ in range(blocks):
                async with session.begin_nested():
                    for key in self._keys.take(statements):
                        _check(key, await session.get_one(self._user, key))
                # Otherwise a thousand users are in the session, and are not read again.
                session.expunge_all()


class _Ours:
    """The blocks of a registry. What is yielded is used as SQLAlchemy's users use it."""

    def __init__(self, cast: Cast) -> None:
        self._models = cast.models
        self._user = cast.User
        self._select = _selection(cast.User)
        self._keys = _Keys()

    async def connection(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._models.connection() as connection:
                for key in self._keys.take(statements):
                    _check(key, (await connection.execute(self._select, {"key": key})).one())

    async def session(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._models.session() as session:
                for key in self._keys.take(statements):
                    _check(key, await session.get_one(self._user, key))

    async def transaction(self, blocks: int, statements: int) -> None:
        for _ in range(blocks):
            async with self._models.transaction():
                for key in self._keys.take(statements):
                    _check(key, await self._user.query.get(key))

    async def savepoint(self, blocks: int, statements: int) -> None:
        async with self._models.transaction():
            for _ in range(blocks):
                async with self._models.transaction():
                    for key in self._keys.take(statements):
                        _check(key, await self._user.query.get(key))


def _selection(user: Any) -> Any:
    return select(user.id, user.name, user.age).where(user.id == bindparam("key"))


def _check(key: int, found: Any) -> None:
    # A record of asyncpg has its columns by their place only, as a row has.
    if (found[0] if isinstance(found, tuple | asyncpg.Record) else found.id) != key:
        raise RuntimeError(f"user {key} was wanted, and somebody else was found")


@asynccontextmanager
async def open_blocks(url: str) -> AsyncIterator[Mapping[str, Mapping[str, Blocks]]]:
    """By kind of block and by contender; all are connected, to the same filled table."""
    driver_url = make_url(url).set(drivername="postgresql+asyncpg")
    async with AsyncExitStack() as stack:
        cast = make_cast(Registry(url, pool_size=_POOL_SIZE))
        await stack.enter_async_context(cast.models)
        await _fill(cast)
        pool = await stack.enter_async_context(
            asyncpg.create_pool(url, min_size=_POOL_SIZE, max_size=_POOL_SIZE)
        )
        engine = create_async_engine(driver_url)
        stack.push_async_callback(engine.dispose)
        driver, sqlalchemy, ours = _Driver(pool), _Engine(engine, cast.User), _Ours(cast)
        yield {
            CONNECTION: {
                DRIVER: driver.transaction,
                ENGINE: sqlalchemy.begin,
                OURS: ours.connection,
            },
            SESSION: {
                DRIVER: driver.transaction,
                SESSIONS: sqlalchemy.session,
                SESSIONS_BEGIN: sqlalchemy.session_begin,
                OURS: ours.session,
            },
            TRANSACTION: {
                DRIVER: driver.transaction,
                ENGINE: sqlalchemy.begin,
                SESSIONS_BEGIN: sqlalchemy.session_begin,
                OURS: ours.transaction,
            },
            SAVEPOINT: {
                DRIVER: driver.savepoint,
                ENGINE: sqlalchemy.nested,
                SESSIONS_BEGIN: sqlalchemy.session_nested,
                OURS: ours.savepoint,
            },
        }


async def _fill(cast: Cast) -> None:
    await cast.models.create_all()
    await cast.User.query.bulk_create(
        {"id": key, "name": f"user {key}", "age": key % 100} for key in range(1, USERS + 1)
    )
    async with cast.models.connection() as connection:
        # Without statistics the planner may choose another plan halfway through.
        await connection.exec_driver_sql("ANALYZE")
