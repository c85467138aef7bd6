"""The isolation levels of SQLite's, by every way that leads to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from asgi_dbconn import Database
from tests.faults.sqlite_signals import can_write, make_table, numbers

INSERT = text("INSERT INTO t VALUES (1)")
Way = Callable[[Database], AbstractAsyncContextManager[AsyncConnection]]


@asynccontextmanager
async def by_option_of_the_connection(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


@asynccontextmanager
async def by_option_of_the_engine(database: Database) -> AsyncIterator[AsyncConnection]:
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection


@asynccontextmanager
async def by_connection_block(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.connection() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


@asynccontextmanager
async def by_session(database: Database) -> AsyncIterator[AsyncConnection]:
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine) as session:
        yield await session.connection()


@asynccontextmanager
async def by_option_of_the_session(database: Database) -> AsyncIterator[AsyncConnection]:
    async with AsyncSession(database.engine) as session:
        yield await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})


@asynccontextmanager
async def by_transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.transaction(isolation_level="AUTOCOMMIT") as transaction:
        yield transaction.connection


WAYS = (
    by_option_of_the_connection,
    by_option_of_the_engine,
    by_connection_block,
    by_session,
    by_option_of_the_session,
    by_transaction,
)


@pytest.mark.parametrize("way", WAYS)
async def test_autocommit_stores_each_statement_and_begins_nothing(
    sqlite_url: str, way: Way
) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with way(database) as connection:
            await connection.execute(INSERT)
            assert await can_write(sqlite_url, 0)
            await connection.execute(text("VACUUM"))

        assert await numbers(database) == [1]


@pytest.mark.parametrize("way", WAYS)
async def test_transactions_after_it_on_the_same_connection_are_transactions(
    sqlite_url: str, way: Way
) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with way(database) as connection:
            await connection.execute(INSERT)
        with pytest.raises(KeyError):
            async with database.engine.begin() as connection:
                await connection.execute(INSERT)
                raise KeyError

        assert await numbers(database) == [1]
        assert database.stats().connects == 1


async def test_as_an_option_of_the_whole_engine(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        await make_table(database)
    options = {"execution_options": {"isolation_level": "AUTOCOMMIT"}}
    async with Database(sqlite_url, pool_size=1, engine_options=options) as database:
        async with database.engine.connect() as connection:
            await connection.execute(INSERT)
            await connection.execute(text("VACUUM"))
        assert await numbers(database) == [1]


@pytest.mark.parametrize("level", ["SERIALIZABLE", "READ UNCOMMITTED"])
async def test_the_other_levels_are_transactions_and_are_taken_back(
    sqlite_url: str, level: str
) -> None:
    pragma = text("PRAGMA read_uncommitted")
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level=level)
            assert await connection.get_isolation_level() == level
            await connection.execute(INSERT)
            await connection.rollback()
            expected = level == "READ UNCOMMITTED"
            assert (await connection.execute(pragma)).scalar_one() == expected
        async with database.engine.connect() as connection:
            assert (await connection.execute(pragma)).scalar_one() == 0
            assert await connection.get_isolation_level() == "SERIALIZABLE"

        assert await numbers(database) == []


async def test_a_level_that_was_taken_back_leaves_verbs_committed(sqlite_url: str) -> None:
    """SQLAlchemy turns the driver's own late BEGIN on then, which nobody ends."""
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.transaction(isolation_level="SERIALIZABLE") as transaction:
            await transaction.connection.execute(INSERT)
        async with database.engine.connect() as connection:
            await connection.execution_options(asgi_dbconn_autocommit=True)
            await connection.execute(INSERT)
            assert await can_write(sqlite_url, 0)

        assert await numbers(database) == [1, 1]


async def test_autocommit_that_may_only_read(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        with pytest.raises(OperationalError, match="readonly"):
            async with database.transaction(
                isolation_level="AUTOCOMMIT", readonly=True
            ) as transaction:
                await transaction.connection.execute(INSERT)

        async with database.transaction() as transaction:
            await transaction.connection.execute(INSERT)
        assert await numbers(database) == [1]
