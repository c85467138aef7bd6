"""models.rollback(): how it begins and ends, inside of others, in other tasks, and in trouble."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context

import pytest
from sqlalchemy import text

from asgi_dbconn import (
    ConnectionLost,
    Database,
    PoolClosed,
    PoolTimeout,
    Registry,
    TransactionAborted,
    TransactionError,
)
from tests.databases.connected import connected, names, rolled_back
from tests.models import Cast, make_cast
from tests.support.postgres import PostgresServer


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///file.db"])
async def test_it_connects_for_its_time(
    url: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    cast = make_cast(Registry(url))
    async with cast.models.rollback():
        assert cast.models.is_connected
        await cast.models.create_all()
        await cast.User.query.create(name="ada")
        async with cast.models:  # as the application's lifespan does
            assert await names(cast) == ["ada"]
        assert await names(cast) == ["ada"]
    assert not cast.models.is_connected


async def test_a_memory_database_keeps_what_it_had() -> None:
    async with connected("sqlite://") as cast:
        await cast.User.query.create(name="ada")
        async with rolled_back(cast):
            await cast.User.query.filter(name="ada").delete()
            await cast.User.query.create(name="bob")
            assert await names(cast) == ["bob"]


async def test_inside_another_isolation_it_is_a_part(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        await cast.User.query.create(name="ada")
        async with rolled_back(cast):
            await cast.User.query.create(name="bob")
            async with rolled_back(cast), cast.models.transaction():
                await cast.User.query.create(name="cyd")
            assert await names(cast) == ["ada", "bob"]
        await cast.User.query.create(name="dan")
        assert await names(cast) == ["ada", "dan"]


async def test_parts_that_end_out_of_turn_end_with_the_one_around_them(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        one, two = cast.models.rollback(), cast.models.rollback()
        await one.__aenter__()
        await cast.User.query.create(name="ada")
        await two.__aenter__()
        await cast.User.query.create(name="bob")
        await one.__aexit__(None, None, None)
        assert await names(cast) == []
        await cast.User.query.create(name="cyd")
        await two.__aexit__(None, None, None)
        assert await names(cast) == ["cyd"]


async def test_it_may_be_entered_and_left_in_different_tasks(database_url: str) -> None:
    async with connected(database_url) as cast:
        isolation = cast.models.rollback()
        await asyncio.create_task(_enter(isolation))
        await cast.User.query.create(name="ada")
        await asyncio.create_task(_leave(isolation))
        assert await names(cast) == []


async def test_two_that_begin_at_the_same_moment_are_one_and_its_part(database_url: str) -> None:
    async with connected(database_url) as cast:
        database = cast.models.database
        blocks = [database.force_rollback(), database.force_rollback()]
        entering = [asyncio.create_task(_enter(block)) for block in blocks]
        await asyncio.sleep(0)
        with pytest.raises(PoolClosed, match="no engine yet"):
            _ = database.engine
        count = asyncio.create_task(_count(cast))  # waits for it as well
        await asyncio.gather(*entering)
        assert await count == 0
        await cast.User.query.create(name="ada")
        await _leave(blocks[1])
        assert await names(cast) == []
        await _leave(blocks[0])


async def test_an_error_inside_leaves_it_in_order(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.rollback():
                await cast.User.query.create(name="ada")
                raise KeyError
        assert await names(cast) == []


async def test_all_databases_of_a_registry_are_isolated(postgres_url: str, sqlite_url: str) -> None:
    first = make_cast(Registry(postgres_url, extra={"second": sqlite_url}))
    second = make_cast(Registry(first.models.extra["second"]))
    async with first.models:
        await first.models.create_all()
        await second.models.create_all()
        async with first.models.rollback():
            await first.User.query.create(name="ada")
            await second.User.query.create(name="bob")  # a shared database, by whatever registry
            assert (await names(first), await names(second)) == (["ada"], ["bob"])
        assert (await names(first), await names(second)) == ([], [])


async def test_it_is_entered_around_scopes_and_not_inside_of_one(database_url: str) -> None:
    async with connected(database_url) as cast, cast.models.transaction():
        with pytest.raises(TransactionError, match=r"around the scope.*force_rollback=True"):
            async with cast.models.rollback():
                pytest.fail("the block was entered")


async def test_a_scope_that_was_open_before_is_not_a_part_of_it(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        opened, leave = asyncio.Event(), asyncio.Event()

        async def other() -> None:
            async with cast.models.transaction():
                opened.set()
                await leave.wait()
                await cast.User.query.create(name="ada")

        task = asyncio.create_task(other())
        await opened.wait()
        async with cast.models.rollback():
            leave.set()
            await task
            assert await names(cast) == ["ada"]
        assert await names(cast) == ["ada"]


async def test_who_waits_too_long_is_told_by_whom_it_is_held(database_url: str) -> None:
    async with connected(database_url, acquire_timeout=0.1) as cast:  # type: ignore[arg-type]
        async with cast.models.rollback(), cast.models.transaction():
            stranger = asyncio.get_running_loop().create_task(_count(cast), context=Context())
            with pytest.raises(PoolTimeout, match=r"\(isolated\).*Task"):
                await stranger


async def test_a_connection_that_is_lost_ends_it_and_says_so(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with connected(postgres_url) as cast:
        async with cast.models.rollback():
            await cast.User.query.create(name="ada")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05), cast.models.connection() as connection:
                    await connection.execute(text("SELECT pg_sleep(5)"))
            assert await names(cast) == ["ada"]  # a statement that can be cancelled costs nothing
            postgres.terminate_sessions(database=postgres_url.rpartition("/")[2])
            with pytest.raises((ConnectionLost, TransactionAborted)):  # noticed before, or then
                await cast.User.query.count()
            with pytest.raises(TransactionAborted, match="isolated was lost"):
                await cast.User.query.create(name="bob")
        assert await names(cast) == []


async def test_sqlite_that_rolls_back_by_itself_ends_it_too(sqlite_url: str) -> None:
    async with connected(sqlite_url) as cast:
        async with cast.models.rollback():
            await cast.User.query.create(name="ada")
            async with cast.models.connection() as connection:
                raw = await connection.get_raw_connection()
                assert raw.driver_connection is not None
                await raw.driver_connection.rollback()
            with pytest.raises(TransactionAborted, match="isolated was lost"):
                await cast.User.query.create(name="bob")
        assert await names(cast) == []


async def test_nothing_of_it_is_left_on_the_server(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with connected(postgres_url, pool_size=2) as cast:
        async with cast.models.rollback():
            await cast.User.query.create(name="ada")
        # Its locks are gone with it: the same key, at once.
        async with cast.models.transaction() as transaction:
            await transaction.connection.execute(text("SET LOCAL lock_timeout = '1ms'"))
            await cast.User.query.create(name="ada")


async def test_a_database_that_cannot_be_connected_is_not_isolated(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/nowhere/x.db", startup_timeout=0)
    with pytest.raises(OSError, match="nowhere"):
        async with database.force_rollback():
            pytest.fail("the block was entered")
    assert not database.is_connected


async def _count(cast: Cast) -> int:
    count: int = await cast.User.query.count()
    return count


async def _enter(block: contextlib.AbstractAsyncContextManager[None]) -> None:
    await block.__aenter__()


async def _leave(block: contextlib.AbstractAsyncContextManager[None]) -> None:
    await block.__aexit__(None, None, None)
