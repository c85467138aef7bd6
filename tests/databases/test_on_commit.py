"""on_commit(): called once everything is committed, in order, and never for what was taken back."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from asgi_dbconn import ConfigurationError, TransactionClosed
from tests.databases.connected import connected, names


async def test_callbacks_are_called_in_order_after_the_commit(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        called: list[object] = []

        async def count() -> None:
            # The only connection is back, and what was committed can be seen.
            called.append(await cast.User.query.count())

        async with cast.models.transaction() as transaction:
            await cast.User.query.create(name="ada")
            transaction.on_commit(partial(called.append, "first"))
            transaction.on_commit(count)
            transaction.on_commit(lambda: cast.User.query.create(name="bob"))
            transaction.on_commit(partial(called.append, "last"))
            assert called == []

        assert called == ["first", 1, "last"]
        assert await names(cast) == ["ada", "bob"]


async def test_none_is_called_after_a_rollback(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        with pytest.raises(KeyError):
            async with cast.models.transaction() as transaction:
                transaction.on_commit(partial(called.append, "x"))
                raise KeyError
        async with cast.models.transaction(force_rollback=True) as transaction:
            transaction.on_commit(partial(called.append, "y"))

        assert called == []


async def test_what_a_savepoint_registers_waits_for_the_outermost(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        async with cast.models.transaction() as outer:
            outer.on_commit(partial(called.append, "one"))
            async with cast.models.transaction() as inner:
                inner.on_commit(partial(called.append, "two"))
                async with cast.models.transaction() as innermost:
                    innermost.on_commit(partial(called.append, "three"))
            outer.on_commit(partial(called.append, "four"))
            assert called == []

        assert called == ["one", "two", "three", "four"]


async def test_what_a_savepoint_registers_goes_with_it(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        async with cast.models.transaction() as outer:
            with pytest.raises(KeyError):
                async with cast.models.transaction() as inner:
                    inner.on_commit(partial(called.append, "lost"))
                    async with cast.models.transaction() as innermost:
                        innermost.on_commit(partial(called.append, "lost, too"))
                    raise KeyError
            async with cast.models.transaction(force_rollback=True) as forced:
                forced.on_commit(partial(called.append, "never meant"))
            outer.on_commit(partial(called.append, "kept"))

        assert called == ["kept"]


async def test_a_rollback_by_hand_drops_what_was_registered_so_far(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        async with cast.models.transaction() as transaction:
            transaction.on_commit(partial(called.append, "before"))
            await transaction.rollback()
            transaction.on_commit(partial(called.append, "after"))

        assert called == ["after"]


async def test_the_first_error_leaves_the_block_and_the_commit_stands(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []

        def fail() -> None:
            raise KeyError("mail")

        with pytest.raises(KeyError, match="mail") as caught:
            async with cast.models.transaction() as transaction:
                await cast.User.query.create(name="ada")
                transaction.on_commit(partial(called.append, "first"))
                transaction.on_commit(fail)
                transaction.on_commit(partial(called.append, "third"))

        assert called == ["first"]
        assert "after the transaction was committed; 1 more" in caught.value.__notes__[0]
        assert await names(cast) == ["ada"]


@pytest.mark.parametrize("outer", ["session", "connection"])
async def test_in_another_scope_they_wait_for_its_end(database_url: str, outer: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        async with getattr(cast.models, outer)():
            async with cast.models.transaction() as transaction:
                transaction.on_commit(partial(called.append, "x"))
            assert called == []
        assert called == ["x"]

        with pytest.raises(KeyError):
            async with getattr(cast.models, outer)():
                async with cast.models.transaction() as transaction:
                    transaction.on_commit(partial(called.append, "y"))
                raise KeyError
        assert called == ["x"]


@pytest.mark.parametrize("outer", ["session", "connection"])
async def test_a_scope_that_was_rolled_back_by_hand_forgets_them(
    database_url: str, outer: str
) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        async with getattr(cast.models, outer)() as scope:
            async with cast.models.transaction() as transaction:
                await cast.User.query.create(name="ada")
                transaction.on_commit(partial(called.append, "committed"))
            await scope.commit()
            async with cast.models.transaction() as transaction:
                await cast.User.query.create(name="bob")
                transaction.on_commit(partial(called.append, "rolled back"))
            await scope.rollback()
            async with cast.models.transaction() as transaction:
                transaction.on_commit(partial(called.append, "last"))

        assert called == ["committed", "last"]
        assert await names(cast) == ["ada"]


@pytest.mark.parametrize("outer", ["session", "connection"])
async def test_those_of_a_commit_by_hand_are_called_whatever_comes_after_it(
    database_url: str, outer: str
) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        with pytest.raises(KeyError):
            async with getattr(cast.models, outer)() as scope:
                async with cast.models.transaction() as transaction:
                    await cast.User.query.create(name="ada")
                    transaction.on_commit(partial(called.append, "committed"))
                await scope.commit()
                async with cast.models.transaction() as transaction:
                    transaction.on_commit(partial(called.append, "rolled back"))
                raise KeyError
        assert called == ["committed"]
        assert await names(cast) == ["ada"]


async def test_an_error_of_theirs_does_not_replace_that_of_the_block(database_url: str) -> None:
    async def fail() -> None:
        raise ValueError("no mail today")

    async with connected(database_url) as cast:
        with pytest.raises(KeyError) as caught:
            async with cast.models.session() as session:
                async with cast.models.transaction() as transaction:
                    transaction.on_commit(fail)
                    transaction.on_commit(fail)
                await session.commit()
                raise KeyError
        (note,) = caught.value.__notes__
        assert "no mail today" in note
        assert "1 more were not called" in note


async def test_they_come_up_through_joined_blocks(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[str] = []
        async with cast.models.transaction():
            async with cast.models.connection(), cast.models.session():
                async with cast.models.transaction() as transaction:
                    transaction.on_commit(partial(called.append, "x"))
            assert called == []

        assert called == ["x"]


async def test_a_failed_commit_calls_none(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        called: list[str] = []
        with pytest.raises(Exception, match="not_yet"):
            async with cast.models.transaction() as transaction:
                transaction.on_commit(partial(called.append, "x"))
                await transaction.connection.exec_driver_sql(
                    "CREATE TABLE parents (id int PRIMARY KEY)"
                )
                await transaction.connection.exec_driver_sql(
                    "CREATE TABLE children (id int CONSTRAINT not_yet REFERENCES parents "
                    "DEFERRABLE INITIALLY DEFERRED)"
                )
                await transaction.connection.exec_driver_sql("INSERT INTO children VALUES (1)")

        assert called == []


async def test_gathered_savepoints_keep_each_its_own(database_url: str) -> None:
    async with connected(database_url) as cast:
        called: list[int] = []

        async def either(number: int) -> None:
            async with cast.models.transaction() as transaction:
                transaction.on_commit(partial(called.append, number))
                await cast.User.query.create(name=f"u{number}")
                if number % 2:
                    raise KeyError

        async with cast.models.transaction():
            await asyncio.gather(*(either(n) for n in range(6)), return_exceptions=True)

        assert called == [0, 2, 4]


async def test_after_the_block_there_is_nothing_to_wait_for(database_url: str) -> None:
    async with connected(database_url) as cast:
        async with cast.models.transaction() as transaction:
            pass
        with pytest.raises(TransactionClosed, match="inside the block"):
            transaction.on_commit(print)


async def test_a_callback_is_a_function(database_url: str) -> None:
    async def send() -> None:
        pytest.fail("called")

    async with connected(database_url) as cast, cast.models.transaction() as transaction:
        with pytest.raises(ConfigurationError, match="the function itself"):
            transaction.on_commit(send())  # type: ignore[arg-type]
