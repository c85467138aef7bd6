"""What a transaction says that lost a part of itself, and how to go on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from asgi_dbconn import TransactionAborted
from tests.databases.connected import connected, names
from tests.models import Cast


async def test_a_failed_statement_aborts_the_transaction(database_url: str) -> None:
    async with connected(database_url) as cast:
        await cast.User.query.create(name="ada")
        with pytest.raises(TransactionAborted, match="savepoint"):
            async with cast.models.transaction():
                await cast.User.query.create(name="bob")
                with pytest.raises(IntegrityError):
                    await cast.User.query.create(name="ada")
                await cast.User.query.count()

        assert await names(cast) == ["ada"]


@pytest.mark.parametrize("block", ["connection", "transaction", "session"])
async def test_a_swallowed_error_never_looks_like_a_commit(database_url: str, block: str) -> None:
    async with connected(database_url) as cast:
        await cast.User.query.create(name="ada")
        with pytest.raises(TransactionAborted):
            async with getattr(cast.models, block)():
                await cast.User.query.create(name="bob")
                with pytest.raises(IntegrityError):
                    await cast.User.query.create(name="ada")

        assert await names(cast) == ["ada"]


async def test_a_swallowed_error_of_plain_sql_does_not_either(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(TransactionAborted):
            async with cast.models.connection() as connection:
                await cast.User.query.create(name="bob")
                with pytest.raises(DBAPIError):
                    await connection.execute(text("SELECT * FROM nowhere"))

        assert await names(cast) == []


async def test_an_error_in_a_savepoint_leaves_the_outer_transaction_whole(
    database_url: str,
) -> None:
    async with connected(database_url) as cast:
        await cast.User.query.create(name="ada")
        async with cast.models.transaction():
            await cast.User.query.create(name="bob")
            with pytest.raises(IntegrityError):
                async with cast.models.transaction():
                    await cast.User.query.create(name="ada")
            await cast.User.query.create(name="cyd")

        assert await names(cast) == ["ada", "bob", "cyd"]


async def test_an_aborted_transaction_goes_on_after_rollback(database_url: str) -> None:
    async with connected(database_url) as cast:
        await cast.User.query.create(name="ada")
        async with cast.models.transaction() as transaction:
            with pytest.raises(IntegrityError):
                await cast.User.query.create(name="ada")
            await transaction.rollback()
            await cast.User.query.create(name="bob")

        assert await names(cast) == ["ada", "bob"]


async def test_a_session_that_rolls_back_takes_its_transaction_along(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(TransactionAborted, match="a session in it was rolled back"):
            async with cast.models.transaction():
                await cast.User.query.create(name="ada")
                async with cast.models.session() as session:
                    await session.rollback()

        assert await names(cast) == []


@pytest.mark.parametrize("block", ["session", "connection"])
@pytest.mark.parametrize("outer", ["transaction", "session", "connection"])
async def test_a_block_left_half_done_is_not_committed_by_who_catches_its_error(
    database_url: str, outer: str, block: str
) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(TransactionAborted, match="KeyError"):
            async with getattr(cast.models, outer)():
                with contextlib.suppress(KeyError):
                    async with getattr(cast.models, block)():
                        await cast.User.query.create(name="ada")
                        raise KeyError

        assert await names(cast) == []


async def test_a_swallowed_timeout_is_an_aborted_transaction(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        with pytest.raises(TransactionAborted, match="failed before"):
            async with cast.models.transaction() as transaction:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await transaction.connection.execute(text("SELECT pg_sleep(5)"))
                await cast.User.query.count()


async def flush_stale(cast: Cast, session: AsyncSession) -> None:
    """A flush that fails without a failed statement: the row that it updates is gone."""
    gone = cast.User(name="gone")
    session.add(gone)
    await session.flush()
    await session.execute(text("DELETE FROM users WHERE name = 'gone'"))
    gone.age = 7
    await session.flush()


async def flush_twice(cast: Cast, session: AsyncSession) -> None:
    """A flush that fails because a statement does."""
    session.add_all([cast.User(name="twice"), cast.User(name="twice")])
    await session.flush()


FLUSHES = pytest.mark.parametrize(
    ("flush", "error"), [(flush_stale, StaleDataError), (flush_twice, IntegrityError)]
)


@FLUSHES
@pytest.mark.parametrize("is_nested", [False, True])
async def test_a_transaction_that_a_session_ended_is_not_followed_by_another(
    database_url: str, flush: Any, error: type[Exception], is_nested: bool
) -> None:
    """A session of the user's own, whose failed flush has rolled all of it back."""
    async with connected(database_url) as cast:
        with pytest.raises(TransactionAborted, match=r"ended inside its own block.*rollback\(\)"):
            async with cast.models.transaction() as transaction:
                await cast.User.query.create(name="ada")
                async with contextlib.AsyncExitStack() as stack:
                    if is_nested:
                        await stack.enter_async_context(cast.models.connection())
                    with pytest.raises(error):
                        await flush(cast, AsyncSession(transaction.connection))
                    with pytest.raises(TransactionAborted, match="ended inside its own block"):
                        await cast.User.query.create(name="bob")
                    with pytest.raises(TransactionAborted, match="ended inside its own block"):
                        async with cast.models.transaction():
                            pytest.fail("the block was entered")

        assert await names(cast) == []


@FLUSHES
async def test_a_transaction_that_a_session_ended_goes_on_after_rollback(
    database_url: str, flush: Any, error: type[Exception]
) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction() as transaction:
            await cast.User.query.create(name="ada")
            with pytest.raises(error):
                await flush(cast, AsyncSession(transaction.connection))
            await transaction.rollback()
            await cast.User.query.create(name="bob")

        assert await names(cast) == ["bob"]


async def test_rollback_takes_back_what_was_begun_by_hand(database_url: str) -> None:
    """On the connection, after the block's own transaction was ended there."""
    async with connected(database_url) as cast:
        async with cast.models.transaction() as transaction:
            await cast.User.query.create(name="ada")
            await transaction.connection.commit()
            await transaction.connection.execute(text("INSERT INTO users (name) VALUES ('bob')"))
            await transaction.rollback()
            await cast.User.query.create(name="cyd")

        assert await names(cast) == ["ada", "cyd"]


@FLUSHES
async def test_a_failed_flush_of_its_session_aborts_the_block(
    database_url: str, flush: Any, error: type[Exception]
) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(TransactionAborted, match="flush"):
            async with cast.models.session() as session:
                await cast.User.query.create(name="ada")
                with pytest.raises(error):
                    await flush(cast, session)
                with pytest.raises(TransactionAborted, match=r"session.*rollback\(\)"):
                    await cast.User.query.count()
                with pytest.raises(TransactionAborted, match=r"session.*rollback\(\)"):
                    async with cast.models.transaction():
                        pytest.fail("the block was entered")

        assert await names(cast) == []


@FLUSHES
async def test_a_session_goes_on_after_the_rollback_of_a_failed_flush(
    database_url: str, flush: Any, error: type[Exception]
) -> None:
    async with connected(database_url) as cast:
        async with cast.models.session() as session:
            with pytest.raises(error):
                await flush(cast, session)
            await session.rollback()
            await cast.User.query.create(name="ada")

        assert await names(cast) == ["ada"]


@FLUSHES
async def test_a_failed_flush_of_a_session_inside_aborts_the_transaction(
    database_url: str, flush: Any, error: type[Exception]
) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction() as transaction:
            await cast.User.query.create(name="ada")
            with pytest.raises(TransactionAborted):
                async with cast.models.session() as session:
                    with pytest.raises(error):
                        await flush(cast, session)
            with pytest.raises(TransactionAborted):
                await cast.User.query.create(name="bob")
            await transaction.rollback()
            await cast.User.query.create(name="cyd")

        assert await names(cast) == ["cyd"]


async def test_work_that_rolls_the_transaction_back_aborts_it_whatever_it_raised(
    database_url: str,
) -> None:
    def work(connection: Connection) -> None:
        connection.rollback()
        raise KeyError("a")

    async with connected(database_url) as cast:
        with pytest.raises(TransactionAborted, match="KeyError"):
            async with cast.models.connection():
                await cast.User.query.create(name="ada")
                with pytest.raises(KeyError):
                    await cast.models.database.run(work, autocommit=False)
                await cast.User.query.create(name="bob")

        assert await names(cast) == []


async def test_an_error_that_leaves_the_transaction_whole_does_not_abort_it(
    database_url: str,
) -> None:
    def work(connection: Connection) -> None:
        raise KeyError("a")

    async with connected(database_url) as cast:
        async with cast.models.connection():
            await cast.User.query.create(name="ada")
            with pytest.raises(KeyError):
                await cast.models.database.run(work, autocommit=False)

        assert await names(cast) == ["ada"]
