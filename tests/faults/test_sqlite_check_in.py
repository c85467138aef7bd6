"""Connections to SQLite that come back to the pool with something left on them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import Database
from tests.faults.sqlite_signals import Signals, can_write, make_table, numbers

RETURNING = "INSERT INTO t VALUES (1), (2), (3) RETURNING n"


async def driver_of(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def check_the_pool(database: Database, url: str, expected: list[int]) -> None:
    """Its one connection keeps no lock, and what the next one stores stays."""
    assert await can_write(url)
    async with database.transaction() as transaction:
        await transaction.connection.execute(text("INSERT INTO t VALUES (9)"))
    assert await numbers(database) == [*expected, 9]
    assert database.stats().connects == 1


async def test_a_begin_that_was_sent_by_hand(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.connection() as connection:
            await (await driver_of(connection)).execute("BEGIN IMMEDIATE")
            await (await driver_of(connection)).execute("INSERT INTO t VALUES (1)")

        await check_the_pool(database, sqlite_url, [])


async def test_a_begin_after_a_commit_by_hand(sqlite_url: str) -> None:
    """SQLAlchemy believes that its own transaction was committed, and does not roll back."""
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.connection() as connection:
            await connection.execute(text("SELECT 1"))
            await connection.commit()
            await (await driver_of(connection)).execute("BEGIN IMMEDIATE")

        await check_the_pool(database, sqlite_url, [])


async def test_a_cursor_of_the_drivers_that_somebody_keeps(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.connection() as connection:
            kept = await (await driver_of(connection)).execute(RETURNING)
            await kept.fetchone()

        await check_the_pool(database, sqlite_url, [1, 2, 3])
        assert database.stats().unclean == 1
        with pytest.raises(Exception, match="closed"):
            await kept.fetchone()


async def test_a_stream_that_somebody_keeps(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.engine.connect() as connection:
            kept = await connection.stream(text(RETURNING))
            await kept.fetchone()

        await check_the_pool(database, sqlite_url, [])


async def test_a_generator_that_nobody_reads_to_its_end(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database, 1, 2, 3)

        async def rows(connection: AsyncConnection) -> Any:
            async with connection.stream(text("SELECT n FROM t")) as stream:
                async for row in stream:
                    yield row

        async with database.connection() as connection:
            generator = rows(connection)
            await anext(generator)

        await check_the_pool(database, sqlite_url, [1, 2, 3])
        await generator.aclose()


async def test_a_statement_of_the_drivers_that_is_still_under_way(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        signals = Signals()
        await signals.install(database)

        async def leave() -> None:
            async with database.engine.connect() as connection:
                driver = await driver_of(connection)
                async with asyncio.timeout(None) as timeout:
                    inserting = asyncio.ensure_future(
                        driver.execute_fetchall("INSERT INTO t VALUES (held())")
                    )
                    await signals.started()
                    timeout.reschedule(0)
                    is_late.set()
                    await inserting

        is_late = asyncio.Event()
        leaving = asyncio.create_task(leave())
        await is_late.wait()
        signals.released.set()
        with pytest.raises(TimeoutError):
            await leaving

        await check_the_pool(database, sqlite_url, [7])


async def test_commit_with_rows_that_were_not_read(sqlite_url: str) -> None:
    """SQLite refuses to commit beside a statement that writes and is not finished."""
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.engine.connect() as connection:
            returned = await connection.stream(text(RETURNING))
            await returned.fetchone()
            await connection.commit()

        await check_the_pool(database, sqlite_url, [1, 2, 3])


async def test_rollback_with_rows_that_were_not_read(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database)
        async with database.engine.connect() as connection:
            returned = await connection.stream(text(RETURNING))
            await returned.fetchone()
            await connection.rollback()

        await check_the_pool(database, sqlite_url, [])


async def test_a_driver_connection_that_was_left_clean_costs_nothing(sqlite_url: str) -> None:
    """Nor a cursor that was read to its end, though it is kept."""
    async with Database(sqlite_url, pool_size=1) as database:
        await make_table(database, 1)
        async with database.connection() as connection:
            driver = await driver_of(connection)
            kept = await driver.execute("SELECT n FROM t")
            assert await kept.fetchall() == [(1,)]
            first = await driver.execute("SELECT n FROM t")
            assert await first.fetchone() == (1,)
            assert await first.fetchone() is None

        assert database.stats().unclean == 0
        await check_the_pool(database, sqlite_url, [1])
