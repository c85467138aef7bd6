"""The one connection of an isolated SQLite database, which is worth waiting for."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from asgi_dbconn import Database, Registry, TransactionAborted
from tests.faults.sqlite_signals import ENDLESS, HELD_WRITE, Signals, make_table, numbers
from tests.models import make_cast
from tests.support.stopwatch import taking

INSERT = text("INSERT INTO t VALUES (5)")


@pytest.fixture
def registry(sqlite_url: str) -> Registry:
    return Registry(sqlite_url)


async def test_a_write_that_is_cancelled_is_waited_for(registry: Registry) -> None:
    """Interrupted, it would take everything along that was done since the isolation began."""
    database, signals = registry.database, Signals()
    async with registry:
        await make_table(database)
        async with registry.rollback():
            await signals.install(database)
            async with database.transaction() as transaction:
                await transaction.connection.execute(INSERT)

            async def write() -> None:
                async with database.transaction() as transaction:
                    await transaction.connection.execute(HELD_WRITE)

            writing = asyncio.create_task(write())
            await signals.started()
            writing.cancel()
            # Longer than a statement is waited for elsewhere.
            asyncio.get_running_loop().call_later(0.6, signals.released.set)
            with taking(0.5, most=1.9):
                with pytest.raises(asyncio.CancelledError):
                    await writing

            assert await numbers(database) == [5]
        assert await numbers(database) == []


async def test_a_read_that_is_cancelled_beside_a_stream_does_not_end_it(
    registry: Registry,
) -> None:
    database, signals = registry.database, Signals()
    async with registry:
        await make_table(database, 1, 2, 3)
        async with registry.rollback():
            await signals.install(database)

            async def read() -> None:
                async with database.transaction() as transaction:
                    await transaction.connection.execute(INSERT)
                    rows = await transaction.connection.stream(text("SELECT n FROM t"))
                    await rows.fetchone()
                    await transaction.connection.execute(ENDLESS)

            reading = asyncio.create_task(read())
            await signals.started()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

            async with database.transaction() as transaction:
                await transaction.connection.execute(INSERT)
            assert await numbers(database) == [1, 2, 3, 5]
        assert await numbers(database) == [1, 2, 3]


async def test_a_commit_by_hand_ends_it_and_nothing_is_stored_afterwards(
    registry: Registry,
) -> None:
    database = registry.database
    async with registry:
        await make_table(database)
        async with registry.rollback():
            with pytest.raises(TransactionAborted):
                async with database.connection() as connection:
                    await connection.execute(text("COMMIT"))
                    await connection.execute(INSERT)
            with pytest.raises(TransactionAborted, match="isolat"):
                async with database.transaction() as transaction:
                    await transaction.connection.execute(INSERT)
        assert await numbers(database) == []


async def test_rows_that_were_not_read_do_not_hinder_it(registry: Registry) -> None:
    database = registry.database
    async with registry:
        await make_table(database)
        async with registry.rollback():
            async with database.connection() as connection:
                kept = await connection.stream(
                    text("INSERT INTO t VALUES (1), (2), (3) RETURNING n")
                )
                await kept.fetchone()
            assert await numbers(database) == [1, 2, 3]
        assert await numbers(database) == []


async def test_sessions_read_and_then_write_as_outside(registry: Registry) -> None:
    cast = make_cast(registry)
    async with registry:
        await registry.create_all()
        async with registry.rollback():

            async def request(number: int) -> None:
                async with registry.session() as session:
                    await session.execute(text("SELECT * FROM users"))
                    session.add(cast.User(name=str(number)))
                    await session.commit()

            await asyncio.gather(*(request(number) for number in range(10)))
            assert await cast.User.query.count() == 10
        assert await cast.User.query.count() == 0


async def test_isolation_and_database_share_no_state(registry: Registry) -> None:
    database: Database = registry.database
    async with registry:
        await make_table(database)
        for _ in range(2):
            async with registry.rollback(), database.connection() as connection:
                await connection.execute(INSERT)
                await connection.rollback()
                await connection.execute(INSERT)
        assert await numbers(database) == []
