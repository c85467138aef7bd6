"""connection(), session(), transaction(): what is shared, what is committed, and when."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from asgi_dbconn import (
    ConnectionLost,
    PoolClosed,
    PoolTimeout,
    Registry,
    TransactionAborted,
    TransactionClosed,
    TransactionError,
)
from tests.databases.connected import connected, names
from tests.support.postgres import PostgresServer


async def test_a_clean_transaction_commits(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction():
            await cast.User.query.create(name="ada")
            await cast.User.query.create(name="bob")

        assert await names(cast) == ["ada", "bob"]


async def test_an_exception_rolls_everything_back(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.transaction():
                await cast.User.query.create(name="ada")
                raise KeyError

        assert await names(cast) == []


async def test_a_transaction_inside_is_a_savepoint(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction():
            await cast.User.query.create(name="ada")
            with pytest.raises(KeyError):
                async with cast.models.transaction():
                    await cast.User.query.create(name="bob")
                    raise KeyError
            async with cast.models.transaction():
                await cast.User.query.create(name="cyd")

        assert await names(cast) == ["ada", "cyd"]


async def test_the_outer_rollback_takes_back_what_the_inner_committed(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.transaction():
                async with cast.models.transaction():
                    await cast.User.query.create(name="ada")
                raise KeyError

        assert await names(cast) == []


async def test_the_handle_rolls_back_and_the_block_goes_on(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction() as outer:
            await cast.User.query.create(name="ada")
            await outer.rollback()
            await cast.User.query.create(name="bob")
            async with cast.models.transaction() as inner:
                await cast.User.query.create(name="cyd")
                await inner.rollback()
                await cast.User.query.create(name="dan")

        assert await names(cast) == ["bob", "dan"]


async def test_a_connection_is_shared_with_the_queries_inside(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        async with cast.models.connection() as connection:
            await cast.User.query.create(name="ada")
            # Not committed yet, and the only connection is ours: it is seen on this one.
            assert (await connection.execute(select(cast.User.name))).scalars().all() == ["ada"]
            async with cast.models.connection() as again:
                assert again is connection

        assert await names(cast) == ["ada"]


async def test_a_session_commits_at_the_end_of_its_block(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.session() as session:
            user = cast.User(name="ada")
            session.add(user)
            await session.flush()
            await cast.User.query.create(name="bob")

        assert user.name == "ada"
        assert await names(cast) == ["ada", "bob"]


async def test_a_session_rolls_back_on_an_error(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.session() as session:
                session.add(cast.User(name="ada"))
                await session.flush()
                await cast.User.query.create(name="bob")
                raise KeyError

        assert await names(cast) == []


async def test_a_session_in_a_transaction_flushes_instead_of_committing(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.transaction():
                async with cast.models.session() as session:
                    session.add(cast.User(name="ada"))
                    await session.commit()
                assert await names(cast) == ["ada"]
                raise KeyError

        assert await names(cast) == []


async def test_gathered_queries_take_turns_on_the_connection(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        async with cast.models.transaction():
            await asyncio.gather(*(cast.User.query.create(name=f"u{n}") for n in range(10)))

        assert await cast.User.query.count() == 10


async def test_gathered_savepoints_do_not_mix(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:

        async def either(number: int) -> None:
            async with cast.models.transaction():
                await cast.User.query.create(name=f"u{number}")
                await asyncio.sleep(0)
                if number % 2:
                    raise KeyError

        async with cast.models.transaction():
            await asyncio.gather(*(either(n) for n in range(10)), return_exceptions=True)

        assert await names(cast) == ["u0", "u2", "u4", "u6", "u8"]


async def test_a_task_that_outlives_the_block_is_told_so(database_url: str) -> None:
    async with connected(database_url) as cast:
        ended = asyncio.Event()

        async def late() -> None:
            await ended.wait()
            await cast.User.query.count()

        async with cast.models.transaction():
            task = asyncio.create_task(late())
        ended.set()

        with pytest.raises(TransactionClosed, match="has ended"):
            await task


async def test_a_read_only_transaction_refuses_to_write(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        with pytest.raises(DBAPIError, match="read-only"):
            async with cast.models.transaction(readonly=True):
                await cast.User.query.create(name="ada")


async def test_the_isolation_level_is_chosen_per_transaction(postgres_url: str) -> None:
    async with connected(postgres_url, pool_size=1) as cast:
        show = text("SHOW transaction_isolation")
        async with cast.models.transaction(isolation_level="SERIALIZABLE") as transaction:
            assert (await transaction.connection.execute(show)).scalar() == "serializable"
        async with cast.models.transaction() as transaction:
            assert (await transaction.connection.execute(show)).scalar() == "read committed"


async def test_a_savepoint_has_no_isolation_level_of_its_own(database_url: str) -> None:
    async with connected(database_url) as cast, cast.models.transaction():
        with pytest.raises(TransactionError, match="outermost"):
            async with cast.models.transaction(isolation_level="SERIALIZABLE"):
                pytest.fail("the block was entered")


async def test_an_exhausted_pool_says_which_task_holds_it(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        impatient = Registry(database_url, pool_size=1, acquire_timeout=0.1)
        async with impatient:
            entered, leave = asyncio.Event(), asyncio.Event()

            async def hold() -> None:
                async with impatient.connection():
                    entered.set()
                    await leave.wait()

            holder = asyncio.create_task(hold(), name="report generator")
            await entered.wait()
            with pytest.raises(PoolTimeout, match="report generator"):
                await impatient.query(cast.User).count()
            leave.set()
            await holder


async def test_the_engine_is_sqlalchemys_and_passes_the_gate(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        engine = cast.models.database.engine
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 7"))).scalar() == 7
            assert cast.models.database.engine is engine

    with pytest.raises(PoolClosed):
        async with engine.connect():
            pytest.fail("a closed pool came back to life")
    with pytest.raises(PoolClosed, match="no engine"):
        _ = cast.models.database.engine


async def test_cancelled_queries_give_their_connections_back(database_url: str) -> None:
    async with connected(database_url, pool_size=2) as cast:
        for _ in range(20):
            tasks = [asyncio.create_task(cast.User.query.count()) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        # Both are there: neither of these would be served otherwise.
        async with cast.models.database.engine.connect(), cast.models.database.engine.connect():
            pass


async def test_a_sessions_rollback_takes_the_queries_of_its_block_along(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.session() as session:
            await cast.User.query.create(name="ada")
            await session.rollback()
            await cast.User.query.create(name="bob")

        assert await names(cast) == ["bob"]


async def test_a_sessions_commit_keeps_the_queries_of_its_block(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.session() as session:
                await cast.User.query.create(name="ada")
                await session.commit()
                raise KeyError

        assert await names(cast) == ["ada"]


async def test_a_savepoint_in_a_session_is_a_part_of_its_transaction(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.session() as session:
            async with cast.models.transaction():
                session.add(cast.User(name="ada"))
                await session.flush()
            session.add(cast.User(name="bob"))
        assert await names(cast) == ["ada", "bob"]

        async with cast.models.session() as session:
            async with cast.models.transaction():
                await cast.User.query.create(name="cyd")
            await session.rollback()
        assert await names(cast) == ["ada", "bob"]


async def test_a_sibling_savepoint_does_not_take_the_writes_of_a_session_along(
    database_url: str,
) -> None:
    async with connected(database_url) as cast:

        async def write() -> None:
            async with cast.models.session() as session:
                session.add(cast.User(name="ada"))
                await session.flush()

        async def fail() -> None:
            async with cast.models.transaction():
                await cast.User.query.create(name="bob")
                for _ in range(5):
                    await asyncio.sleep(0)
                raise KeyError

        async with cast.models.transaction():
            await asyncio.gather(fail(), write(), return_exceptions=True)

        assert await names(cast) == ["ada"]


async def test_sqlite_gives_its_lock_back_when_a_statement_is_cancelled(sqlite_url: str) -> None:
    long = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) "
        "SELECT count(*) FROM n"
    )
    async with connected(sqlite_url) as cast:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), cast.models.transaction() as transaction:
                await transaction.connection.execute(long)
        async with asyncio.timeout(2):
            await cast.User.query.create(name="ada")


async def test_a_read_only_transaction_refuses_to_write_on_sqlite_too(sqlite_url: str) -> None:
    async with connected(sqlite_url, pool_size=1) as cast:
        with pytest.raises(DBAPIError, match="readonly"):
            async with cast.models.transaction(readonly=True):
                await cast.User.query.create(name="ada")
        await cast.User.query.create(name="ada")
        async with cast.models.transaction(readonly=True):
            assert await cast.User.query.count() == 1
        await cast.User.query.create(name="bob")


async def test_a_block_that_ends_in_another_context_commits_all_the_same(database_url: str) -> None:
    async with connected(database_url) as cast:
        block = cast.models.connection()
        await asyncio.create_task(block.__aenter__())
        # In the test's own task there is no scope: this is committed by itself.
        await block.__aexit__(None, None, None)
        await cast.User.query.create(name="ada")
        assert await names(cast) == ["ada"]


@pytest.mark.parametrize("outer", ["connection", "session", "transaction"])
async def test_what_a_session_commits_is_rolled_back_with_the_block_around_it(
    database_url: str, outer: str
) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with getattr(cast.models, outer)():
                async with cast.models.session() as session:
                    session.add(cast.User(name="ada"))
                    await session.commit()
                raise KeyError

        assert await names(cast) == []


@pytest.mark.parametrize("kind", ["connection", "session", "transaction"])
async def test_a_block_that_lost_its_connection_never_looks_committed(
    postgres: PostgresServer, postgres_url: str, kind: str
) -> None:
    """Also where what failed on it was caught."""
    async with connected(postgres_url) as cast:
        with pytest.raises(TransactionAborted):
            async with getattr(cast.models, kind)():
                await cast.User.query.create(name="ada")
                postgres.terminate_sessions(database=postgres_url.rpartition("/")[2])
                with pytest.raises(ConnectionLost):
                    await cast.User(name="bob", posts=[cast.Post()]).save()

        assert await names(cast) == []
