"""transaction(force_rollback=True): nothing of it is left, however it ends."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from asgi_dbconn import TransactionError
from tests.databases.connected import add_in_vain, connected, names


async def test_nothing_is_left_of_it(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction(force_rollback=True):
            await cast.User.query.create(name="ada")
            async with cast.models.session() as session:
                session.add(cast.User(name="bob"))
                await session.commit()
            assert await names(cast) == ["ada", "bob"]

        assert await names(cast) == []


async def test_transactions_inside_are_savepoints_as_ever(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction(force_rollback=True):
            async with cast.models.transaction():
                await cast.User.query.create(name="ada")
            await add_in_vain(cast, "bob")
            assert await names(cast) == ["ada"]

        assert await names(cast) == []


async def test_an_error_leaves_it_as_it_is(database_url: str) -> None:
    async with connected(database_url) as cast:
        with pytest.raises(KeyError):
            async with cast.models.transaction(force_rollback=True):
                await cast.User.query.create(name="ada")
                raise KeyError

        assert await names(cast) == []


async def test_a_statement_that_failed_in_it_is_no_error_of_its_end(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        await cast.User.query.create(name="ada")
        async with cast.models.transaction(force_rollback=True):
            with pytest.raises(IntegrityError):
                await cast.User.query.create(name="ada")

        await cast.User.query.create(name="bob")
        assert await names(cast) == ["ada", "bob"]


async def test_its_handle_rolls_back_and_it_goes_on(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction(force_rollback=True) as transaction:
            await cast.User.query.create(name="ada")
            await transaction.rollback()
            await cast.User.query.create(name="bob")
            assert await names(cast) == ["bob"]

        assert await names(cast) == []


@pytest.mark.parametrize("outer", ["transaction", "session", "connection"])
async def test_inside_a_scope_only_its_own_part_is_rolled_back(
    database_url: str, outer: str
) -> None:
    async with connected(database_url) as cast:
        async with getattr(cast.models, outer)():
            await cast.User.query.create(name="ada")
            async with cast.models.transaction(force_rollback=True):
                await cast.User.query.create(name="bob")
            await cast.User.query.create(name="cyd")

        assert await names(cast) == ["ada", "cyd"]


async def test_its_connection_cannot_be_committed_by_hand(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        with pytest.raises(TransactionError, match="force_rollback"):
            async with cast.models.transaction(force_rollback=True) as transaction:
                await cast.User.query.create(name="ada")
                await transaction.connection.commit()

        assert await names(cast) == []
        await cast.User.query.create(name="bob")  # the connection came back in order


async def test_tables_are_rolled_back_too(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction(force_rollback=True) as transaction:
            await transaction.connection.execute(text("CREATE TABLE notes (id INTEGER)"))
            await transaction.connection.execute(text("INSERT INTO notes VALUES (1)"))
        async with cast.models.transaction() as transaction:
            await transaction.connection.execute(text("CREATE TABLE notes (id INTEGER)"))


async def test_it_may_be_read_only(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        async with cast.models.transaction(force_rollback=True, readonly=True):
            assert await names(cast) == []
        await cast.User.query.create(name="ada")  # the connection may write again
        assert await names(cast) == ["ada"]
