"""AUTOCOMMIT is what it says, by every door, on SQLite as on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tests.blocks.ends import BlockError
from tests.blocks.stage import INSERT, Stage

AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
Execute = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def _engine_connection(stage: Stage) -> AsyncIterator[Execute]:
    async with stage.models.database.engine.connect() as connection:
        await connection.execution_options(**AUTOCOMMIT)
        yield connection.execute


@asynccontextmanager
async def _engine_view(stage: Stage) -> AsyncIterator[Execute]:
    engine = stage.models.database.engine.execution_options(**AUTOCOMMIT)
    async with engine.connect() as connection:
        yield connection.execute


@asynccontextmanager
async def _engine_begin(stage: Stage) -> AsyncIterator[Execute]:
    engine = stage.models.database.engine.execution_options(**AUTOCOMMIT)
    async with engine.begin() as connection:
        yield connection.execute


@asynccontextmanager
async def _block(stage: Stage) -> AsyncIterator[Execute]:
    async with stage.models.connection() as connection:
        await connection.execution_options(**AUTOCOMMIT)
        yield connection.execute


@asynccontextmanager
async def _sync_options(stage: Stage) -> AsyncIterator[Execute]:
    async with stage.models.connection() as connection:
        await connection.run_sync(lambda sync: sync.execution_options(**AUTOCOMMIT))
        yield connection.execute


@asynccontextmanager
async def _session_of_the_view(stage: Stage) -> AsyncIterator[Execute]:
    make = async_sessionmaker(stage.models.database.engine.execution_options(**AUTOCOMMIT))
    async with make() as session:
        yield session.execute


@asynccontextmanager
async def _bound_session(stage: Stage) -> AsyncIterator[Execute]:
    async with AsyncSession(stage.models.database.engine) as session:
        await session.connection(execution_options=AUTOCOMMIT)
        yield session.execute


@asynccontextmanager
async def _session_block(stage: Stage) -> AsyncIterator[Execute]:
    async with stage.models.session() as session:
        await session.connection(execution_options=AUTOCOMMIT)
        yield session.execute


@asynccontextmanager
async def _transaction(stage: Stage) -> AsyncIterator[Execute]:
    async with stage.models.transaction(isolation_level="AUTOCOMMIT") as transaction:
        yield transaction.connection.execute


DOORS = (
    _engine_connection,
    _engine_view,
    _engine_begin,
    _block,
    _sync_options,
    _session_of_the_view,
    _bound_session,
    _session_block,
    _transaction,
)
Door = Callable[[Stage], Any]


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
@pytest.mark.parametrize("door", DOORS)
async def test_a_statement_is_stored_when_it_returns(stage: Stage, door: Door, fails: bool) -> None:
    with suppress(BlockError):
        async with door(stage) as execute:
            await execute(INSERT, {"name": "stored"})
            assert stage.watcher.names() == ["stored"]
            assert await stage.watcher.complain_about_locks() is None
            if fails:
                raise BlockError
    await stage.check("stored")


@pytest.mark.parametrize("door", DOORS)
async def test_vacuum_works(stage: Stage, door: Door) -> None:
    async with door(stage) as execute:
        await execute(text("VACUUM"))
    await stage.check()


@pytest.mark.parametrize("door", DOORS)
async def test_a_statement_that_fails_spoils_nothing(stage: Stage, door: Door) -> None:
    await stage.create("one")
    async with door(stage) as execute:
        await execute(INSERT, {"name": "two"})
        with suppress(Exception):
            await execute(INSERT, {"name": "one"})
        await execute(INSERT, {"name": "three"})
    await stage.check("one", "three", "two")


@pytest.mark.parametrize("door", DOORS)
async def test_the_next_user_of_the_connection_has_transactions(stage: Stage, door: Door) -> None:
    async with door(stage) as execute:
        await execute(INSERT, {"name": "stored"})
    for _ in range(3):
        with pytest.raises(BlockError):
            async with stage.models.transaction():
                await stage.create("gone")
                raise BlockError
        with pytest.raises(BlockError):
            async with stage.models.database.engine.begin() as connection:
                await connection.execute(INSERT, {"name": "gone"})
                raise BlockError
    await stage.check("stored")


async def test_reading_keeps_no_lock(stage: Stage) -> None:
    async with stage.models.database.engine.connect() as connection:
        await connection.execution_options(**AUTOCOMMIT)
        await connection.execute(text("SELECT * FROM items"))
        await stage.create("other")
        rows = await connection.execute(text("SELECT count(*) FROM items"))
        assert rows.scalar_one() == 1
    await stage.check("other")


async def test_verbs_in_such_a_block(stage: Stage) -> None:
    with suppress(BlockError):
        async with stage.models.connection() as connection:
            await connection.execution_options(**AUTOCOMMIT)
            await stage.create("stored")
            assert stage.watcher.names() == ["stored"]
            raise BlockError
    await stage.check("stored")
