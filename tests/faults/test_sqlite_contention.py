"""Transactions of SQLite's that read first and write later, when others write, too."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import Database, Registry
from tests.faults.sqlite_signals import make_table, numbers
from tests.models import make_cast
from tests.support.stopwatch import taking

INSERT = text("INSERT INTO t VALUES (:n)")
ROWS = text("SELECT n FROM t ORDER BY n")


@contextmanager
def stranger(url: str) -> Iterator[sqlite3.Connection]:
    """Somebody who writes to the same file."""
    other = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    try:
        yield other
    finally:
        other.close()


@asynccontextmanager
async def reading(url: str, *, busy_timeout: int = 5000) -> AsyncIterator[AsyncConnection]:
    """A connection whose transaction has read; somebody else has written since."""
    async with Database(url, pool_size=1) as database:
        await make_table(database, 1)
        async with database.engine.connect() as connection:
            await connection.execute(text(f"PRAGMA busy_timeout={busy_timeout}"))
        async with database.engine.connect() as connection:
            assert list((await connection.execute(ROWS)).scalars()) == [1]
            with stranger(url) as other:
                other.execute("INSERT INTO t VALUES (2)")
            yield connection


@pytest.mark.parametrize("at_once", [2, 10])
async def test_sessions_that_read_and_then_write_all_succeed(sqlite_url: str, at_once: int) -> None:
    cast = make_cast(Registry(sqlite_url))
    async with cast.models:
        await cast.models.create_all()

        async def request(number: int) -> None:
            async with cast.models.session() as session:
                await session.execute(text("SELECT * FROM users"))
                await asyncio.sleep(0)
                session.add(cast.User(name=str(number)))
                await session.commit()

        for first in range(0, 100, at_once):
            await asyncio.gather(*(request(first + number) for number in range(at_once)))

        assert await cast.User.query.count() == 100


async def test_connections_and_verbs_in_them_do_too(sqlite_url: str) -> None:
    cast = make_cast(Registry(sqlite_url))
    async with cast.models:
        await cast.models.create_all()

        async def request(number: int) -> None:
            async with cast.models.connection():
                await cast.User.query.count()
                await cast.User.query.create(name=str(number))

        for first in range(0, 100, 10):
            await asyncio.gather(*(request(first + number) for number in range(10)))

        assert await cast.User.query.count() == 100


async def test_the_first_write_sees_what_others_have_committed(sqlite_url: str) -> None:
    async with reading(sqlite_url) as connection:
        await connection.execute(text("UPDATE t SET n = n + 10"))
        assert list((await connection.execute(ROWS)).scalars()) == [11, 12]
        await connection.commit()
        with stranger(sqlite_url) as other:
            assert other.execute("SELECT n FROM t ORDER BY n").fetchall() == [(11,), (12,)]


async def test_many_rows_and_returned_ones_are_sent_again_too(sqlite_url: str) -> None:
    async with reading(sqlite_url) as connection:
        await connection.execute(INSERT, [{"n": 3}, {"n": 4}])
        await connection.commit()
        assert list((await connection.execute(ROWS)).scalars()) == [1, 2, 3, 4]
        with stranger(sqlite_url) as other:
            other.execute("INSERT INTO t VALUES (5)")
        async with connection.stream(text("INSERT INTO t VALUES (6), (7) RETURNING n")) as rows:
            assert [row.n async for row in rows] == [6, 7]
        await connection.commit()
        assert list((await connection.execute(ROWS)).scalars()) == [1, 2, 3, 4, 5, 6, 7]


async def test_savepoints_of_the_part_that_read_are_set_again(sqlite_url: str) -> None:
    async with reading(sqlite_url) as connection:
        async with connection.begin_nested() as outer:
            async with connection.begin_nested():
                await connection.execute(ROWS)
            inner = await connection.begin_nested()
            await connection.execute(INSERT, {"n": 3})
            await inner.rollback()
            await connection.execute(INSERT, {"n": 4})
            await outer.commit()
        await connection.commit()

        assert list((await connection.execute(ROWS)).scalars()) == [1, 2, 4]


async def test_what_fails_afterwards_leaves_the_transaction_as_ever(sqlite_url: str) -> None:
    async with reading(sqlite_url) as connection:
        with stranger(sqlite_url) as other:
            other.execute("CREATE UNIQUE INDEX u ON t (n)")
        with pytest.raises(IntegrityError):
            await connection.execute(INSERT, {"n": 1})
        await connection.rollback()
        await connection.execute(INSERT, {"n": 3})
        await connection.commit()

        assert list((await connection.execute(ROWS)).scalars()) == [1, 2, 3]


async def test_a_stream_that_is_being_read_makes_it_impossible_and_is_named(
    sqlite_url: str,
) -> None:
    async with reading(sqlite_url) as connection:
        async with connection.stream(ROWS) as rows:
            with pytest.raises(
                OperationalError, match=r"(?s)stream.*Use transaction\(\)"
            ) as caught:
                await connection.execute(INSERT, {"n": 3})
            assert getattr(caught.value.orig, "sqlite_errorname", "") == "SQLITE_BUSY_SNAPSHOT"
            assert [row.n async for row in rows] == [1]


async def test_one_that_has_written_is_not_begun_anew(sqlite_url: str, tmp_path: object) -> None:
    """It has the lock of its own file; another one, which was attached, is locked."""
    attached = f"{tmp_path}/attached.sqlite"
    async with (
        Database(sqlite_url, pool_size=1, query_timeout=0.2) as database,
        Database(f"sqlite:///{attached}") as second,
    ):
        await make_table(database)
        await make_table(second)
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text(f"ATTACH '{attached}' AS attached"))
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT * FROM t"))
            await connection.execute(text("CREATE TABLE made (n int)"))
            with stranger(f"sqlite:///{attached}") as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(TimeoutError):
                    await connection.execute(text("INSERT INTO attached.t VALUES (1)"))
                other.execute("ROLLBACK")
            await connection.rollback()


async def test_the_wait_for_the_lock_is_bounded_and_leaves_the_transaction(
    sqlite_url: str,
) -> None:
    async with reading(sqlite_url, busy_timeout=300) as connection:
        with stranger(sqlite_url) as other:
            other.execute("BEGIN IMMEDIATE")
            with taking(0.3, most=2.0):
                with pytest.raises(OperationalError, match="locked"):
                    await connection.execute(INSERT, {"n": 3})
            other.execute("ROLLBACK")
        # SQLAlchemy goes on after an error, on every database that lets it.
        await connection.execute(INSERT, {"n": 4})
        await connection.rollback()
        assert list((await connection.execute(ROWS)).scalars()) == [1, 2]
        timeout = await connection.execute(text("PRAGMA busy_timeout"))
        assert timeout.scalar_one() == 300


async def test_a_read_only_transaction_is_not_begun_anew(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database:
        await make_table(database, 1)
        with pytest.raises(OperationalError, match="readonly"):
            async with database.transaction(readonly=True) as transaction:
                await transaction.connection.execute(ROWS)
                with stranger(sqlite_url) as other:
                    other.execute("INSERT INTO t VALUES (2)")
                await transaction.connection.execute(INSERT, {"n": 3})

        assert await numbers(database) == [1, 2]
        async with database.transaction() as transaction:
            await transaction.connection.execute(INSERT, {"n": 3})
        assert await numbers(database) == [1, 2, 3]


async def test_increments_in_transactions_lose_nothing_with_a_stranger(sqlite_url: str) -> None:
    async with Database(sqlite_url) as database, Database(sqlite_url) as stranger_to_it:
        await make_table(database, 0)

        async def increment(where: Database) -> None:
            async with where.transaction() as transaction:
                n = (await transaction.connection.execute(ROWS)).scalar_one()
                await transaction.connection.execute(text("UPDATE t SET n = :n"), {"n": n + 1})

        await asyncio.gather(*(increment((database, stranger_to_it)[n % 2]) for n in range(40)))

        assert await numbers(database) == [40]
