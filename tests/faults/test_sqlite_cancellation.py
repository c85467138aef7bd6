"""A statement of SQLite's that is cancelled: what is raised, what is kept, and what is let go."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.exc import OperationalError, SAWarning

from asgi_dbconn import Database, TransactionAborted, UnclosedDatabaseWarning
from asgi_dbconn.pools.dialects.sqlite import SQLiteProfile
from tests.faults.sqlite_signals import (
    ENDLESS,
    ENDLESS_WRITE,
    HELD_READ,
    HELD_WRITE,
    Signals,
    can_write,
    make_table,
    numbers,
)
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until_async

INSERT = text("INSERT INTO t VALUES (5)")
ROWS = text("SELECT n FROM t")


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[tuple[Database, Signals]]:
    """A database with one connection, and a table with 200 rows."""
    signals = Signals()
    async with Database(url, pool_size=1, **options) as database:  # type: ignore[arg-type]
        await make_table(database, *range(200))
        await signals.install(database)
        yield database, signals
        signals.released.set()


async def test_a_cancelled_read_beside_an_open_cursor_gives_its_lock_back(sqlite_url: str) -> None:
    async with opened(sqlite_url) as (database, signals):

        async def read() -> None:
            async with database.transaction() as transaction:
                rows = await transaction.connection.stream(ROWS)
                await rows.fetchone()
                await transaction.connection.execute(ENDLESS)

        reading = asyncio.create_task(read())
        await signals.started()
        reading.cancel()
        with taking(most=1.5):
            with pytest.raises(asyncio.CancelledError):
                await reading

        assert await can_write(sqlite_url)
        async with database.transaction() as transaction:
            await transaction.connection.execute(INSERT)
        assert database.stats().connects == 1


async def test_a_timeout_at_any_moment_is_a_timeout(sqlite_url: str) -> None:
    moments = random.Random(5)
    async with opened(sqlite_url) as (database, _):

        async def use_it() -> None:
            async with database.transaction() as transaction:
                connection = transaction.connection
                await connection.execute(INSERT)
                async with connection.stream(ROWS) as rows:
                    async for _ in rows:
                        pass
                returned = await connection.stream(text("UPDATE t SET n = n RETURNING n"))
                await returned.fetchone()
                await connection.execute(ROWS)

        outcomes = set()
        for _ in range(300):
            try:
                async with asyncio.timeout(moments.random() * 0.008):
                    await use_it()
            except Exception as error:
                outcomes.add(type(error))

        assert outcomes == {TimeoutError}
        assert await can_write(sqlite_url)


async def test_a_stream_that_an_interrupt_beside_it_ended_says_so(sqlite_url: str) -> None:
    async with opened(sqlite_url) as (database, signals), database.engine.connect() as connection:
        rows = await connection.stream(ROWS)
        await rows.fetchone()
        reading = asyncio.create_task(connection.execute(ENDLESS))
        await signals.started()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

        with pytest.raises(TransactionAborted, match="statement beside it was interrupted"):
            while await rows.fetchone():
                pass


async def test_after_a_second_cancellation_nothing_is_waited_for(sqlite_url: str) -> None:
    async with opened(sqlite_url) as (database, signals):

        async def write() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(HELD_WRITE)

        writing = asyncio.create_task(write())
        await signals.started()
        writing.cancel()
        await asyncio.sleep(0)
        writing.cancel()
        with taking(most=1.0):
            with pytest.raises(asyncio.CancelledError):
                await writing
        assert not await can_write(sqlite_url, 0)  # SQLite is still at it

        signals.released.set()

        assert await can_write(sqlite_url)
        assert len(await numbers(database)) == 200
        assert database.stats().connects == 2


async def test_a_statement_that_cannot_be_interrupted_is_given_up_after_two_seconds(
    sqlite_url: str,
) -> None:
    async with opened(sqlite_url) as (database, signals):

        async def read() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(INSERT)
                await transaction.connection.execute(HELD_READ)

        reading = asyncio.create_task(read())
        await signals.started()
        reading.cancel()
        with taking(1.5, most=3.5):
            with pytest.raises(asyncio.CancelledError):
                await reading

        signals.released.set()

        assert await can_write(sqlite_url)
        assert len(await numbers(database)) == 200


async def test_what_follows_a_rollback_of_sqlites_own_is_not_committed(sqlite_url: str) -> None:
    """An interrupted statement that writes takes the whole transaction along."""
    async with opened(sqlite_url) as (database, _):

        async def write() -> None:
            async with database.engine.connect() as connection:
                await connection.execute(INSERT)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await connection.execute(ENDLESS_WRITE)
                for _ in range(2):
                    with pytest.raises(TransactionAborted, match="rolled the whole transaction"):
                        await connection.execute(INSERT)
                with pytest.raises(TransactionAborted):
                    await connection.commit()

        await write()

        assert await numbers(database) == list(range(200))
        async with database.engine.begin() as connection:
            await connection.execute(INSERT)
        assert len(await numbers(database)) == 201


async def test_what_follows_a_trigger_that_rolls_back_is_not_committed(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        await make_table(database)
        async with database.engine.begin() as connection:
            await connection.execute(
                text(
                    "CREATE TRIGGER refuse BEFORE INSERT ON t WHEN new.n < 0 "
                    "BEGIN SELECT RAISE(ROLLBACK, 'no negative numbers'); END"
                )
            )
        async with database.engine.connect() as connection:
            await connection.execute(INSERT)
            with pytest.raises(Exception, match="no negative numbers"):
                await connection.execute(text("INSERT INTO t VALUES (-1)"))
            with pytest.raises(TransactionAborted, match="no negative numbers"):
                await connection.execute(INSERT)
            await connection.rollback()
            await connection.execute(INSERT)
            await connection.commit()

        assert await numbers(database) == [5]


async def test_a_transaction_that_was_committed_by_hand_does_not_go_on(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        await make_table(database)
        async with database.engine.connect() as connection:
            await connection.execute(INSERT)
            await connection.execute(text("COMMIT"))
            with pytest.raises(TransactionAborted, match="sent by hand"):
                await connection.execute(INSERT)
            await connection.commit()

        assert await numbers(database) == [5]


async def test_a_quick_write_that_is_cancelled_is_not_interrupted(sqlite_url: str) -> None:
    """Its savepoint is rolled back; the transaction around it goes on."""
    async with opened(sqlite_url) as (database, signals), database.engine.begin() as connection:
        await connection.execute(INSERT)
        savepoint = await connection.begin_nested()
        writing = asyncio.create_task(connection.execute(HELD_WRITE))
        await signals.started()
        writing.cancel()
        await asyncio.sleep(0)
        signals.released.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await savepoint.rollback()
        stored = list((await connection.execute(text("SELECT count(*), sum(n=7) FROM t"))).one())
        assert stored == [201, 1]
        await connection.execute(INSERT)


@pytest.mark.parametrize("statement", [ENDLESS, ENDLESS_WRITE])
async def test_a_statement_can_be_stopped_from_another_task(
    sqlite_url: str, statement: TextClause
) -> None:
    async with opened(sqlite_url) as (database, signals):
        async with database.engine.connect() as connection:
            await connection.execute(INSERT)
            rows = await connection.stream(ROWS)
            await rows.fetchone()
            raw = await connection.get_raw_connection()
            executing = asyncio.create_task(connection.execute(statement))
            if statement is ENDLESS:
                await signals.started()
            else:
                await asyncio.sleep(0)
            with taking(most=1.5):
                assert await SQLiteProfile().stop(raw.dbapi_connection, 2.0)
            with pytest.raises(OperationalError, match="interrupted"):
                await executing
            await connection.rollback()
            await connection.execute(INSERT)
            await connection.commit()

        assert len(await numbers(database)) == 201


async def test_two_cancellations_at_any_moment_leave_no_lock(sqlite_url: str) -> None:
    moments = random.Random(6)
    async with opened(sqlite_url) as (database, _):

        async def use_it() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(INSERT)
                async with transaction.connection.stream(ROWS) as rows:
                    async for _ in rows:
                        pass
                returned = await transaction.connection.stream(
                    text("UPDATE t SET n = n RETURNING n")
                )
                await returned.fetchone()

        for _ in range(150):
            using = asyncio.create_task(use_it())
            await asyncio.sleep(moments.random() * 0.006)
            using.cancel()
            for _ in range(moments.randrange(6)):
                await asyncio.sleep(0)
            using.cancel()
            (outcome,) = await asyncio.gather(using, return_exceptions=True)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)

        assert await can_write(sqlite_url)
        assert set(await numbers(database)) == set(range(200))
        before = len(await numbers(database))
        async with database.transaction() as transaction:
            await transaction.connection.execute(INSERT)
        assert len(await numbers(database)) == before + 1


async def test_who_waits_for_the_write_lock_can_be_cancelled(sqlite_url: str) -> None:
    async with Database(sqlite_url, pool_size=2) as database:
        await make_table(database)
        async with database.engine.connect() as holder:
            await holder.execute(INSERT)

            async def write() -> None:
                async with database.transaction() as transaction:
                    await transaction.connection.execute(INSERT)

            waiting = asyncio.create_task(write())
            await wait_until_async(lambda: database.stats().in_use == 2, 5)
            await asyncio.sleep(0.05)  # the longer, the surer it is that it waits
            waiting.cancel()
            with taking(most=1.0):
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await holder.commit()
        await write()

        assert await numbers(database) == [5, 5]


async def test_a_disconnect_leaves_no_lock(sqlite_url: str) -> None:
    """Though somebody still has the cursor of a statement that was not finished."""
    kept = []
    async with Database(sqlite_url, pool_size=1, shutdown_timeout=0.1) as database:
        await make_table(database, *range(200))
        connection = await database.engine.connect()
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("BEGIN")
        kept.append(await driver.execute("UPDATE t SET n = n RETURNING n"))
        await kept[0].fetchone()
        assert not await can_write(sqlite_url, 0)

    assert await can_write(sqlite_url)
    await connection.close()


async def test_a_connection_whose_loop_is_closed_leaves_no_lock(sqlite_url: str) -> None:
    kept: list[Any] = []
    database = Database(sqlite_url, pool_size=1)

    async def write_and_leave() -> None:
        await database.connect()
        await make_table(database)
        kept.append(await database.engine.connect())
        kept.append(await kept[0].stream(text("INSERT INTO t VALUES (1), (2) RETURNING n")))
        await kept[1].fetchone()

    def in_a_loop_of_its_own() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(write_and_leave())
        loop.close()

    await asyncio.to_thread(in_a_loop_of_its_own)
    with pytest.warns(UnclosedDatabaseWarning):
        await database.disconnect()

    assert await can_write(sqlite_url)
    with pytest.warns(SAWarning, match="garbage collector"):
        kept.clear()
        gc.collect()
