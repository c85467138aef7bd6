"""models.rollback(): code behaves in it as it does without, and nothing of it is left."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from asgi_dbconn import (
    Registry,
    TransactionAborted,
)
from tests.databases.connected import add_in_vain, connected, names, rolled_back
from tests.models import make_cast


async def test_single_queries_are_rolled_back_at_the_end(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        await cast.User.query.create(name="ada")
        await cast.User.query.filter(name="ada").update(age=36)
        assert (await cast.User.query.get(name="ada")).age == 36


@pytest.mark.parametrize("block", ["transaction", "session", "connection"])
async def test_what_a_scope_commits_is_seen_and_rolled_back_at_the_end(
    database_url: str, block: str
) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        async with getattr(cast.models, block)():
            await cast.User.query.create(name="ada")
        with pytest.raises(KeyError):
            async with getattr(cast.models, block)():
                await cast.User.query.create(name="bob")
                raise KeyError
        assert await names(cast) == ["ada"]


async def test_tasks_that_are_no_children_share_it(database_url: str) -> None:
    async with connected(database_url) as cast:
        work: asyncio.Queue[str | None] = asyncio.Queue()
        done: asyncio.Queue[int] = asyncio.Queue()

        async def worker() -> None:
            while (name := await work.get()) is not None:
                await cast.User.query.create(name=name)
                done.put_nowait(await cast.User.query.count())

        older = asyncio.create_task(worker())  # begun before the isolation
        async with rolled_back(cast):
            await cast.User.query.create(name="ada")
            work.put_nowait("bob")
            assert await done.get() == 2
            assert await names(cast) == ["ada", "bob"]
        work.put_nowait("cyd")
        assert await done.get() == 1  # and is free of it afterwards
        work.put_nowait(None)
        await older


async def test_many_at_once_take_turns(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):

        async def order(number: int) -> None:
            async with cast.models.transaction():
                await cast.User.query.create(name=f"u{number}")
                await asyncio.sleep(0)
                if number % 2:
                    raise KeyError

        await asyncio.gather(
            *(order(n) for n in range(6)),
            *(cast.User.query.create(name=f"v{n}") for n in range(3)),
            return_exceptions=True,
        )
        assert await names(cast) == ["u0", "u2", "u4", "v0", "v1", "v2"]


async def test_a_failed_statement_does_not_spoil_it(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        await cast.User.query.create(name="ada")
        with pytest.raises(IntegrityError):
            await cast.User.query.create(name="ada")
        with pytest.raises(IntegrityError):
            async with cast.models.transaction():
                await cast.User.query.create(name="bob")
                await cast.User.query.create(name="ada")
        with pytest.raises(TransactionAborted):
            async with cast.models.transaction():
                await cast.User.query.create(name="cyd")
                with pytest.raises(IntegrityError):
                    await cast.User.query.create(name="ada")
        assert await names(cast) == ["ada"]


async def test_sessions_commit_and_roll_back_as_often_as_they_like(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        async with cast.models.session() as session:
            session.add(cast.User(name="ada"))
            await session.commit()
            session.add(cast.User(name="ada"))
            with pytest.raises(IntegrityError):
                await session.commit()
            await session.rollback()
            session.add(cast.User(name="bob"))
        assert await names(cast) == ["ada", "bob"]


async def test_connections_do_too(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        async with cast.models.connection() as connection:
            async with connection.begin():
                await cast.User.query.create(name="ada")
            await cast.User.query.create(name="bob")
            await connection.rollback()
            await cast.User.query.create(name="cyd")
            await connection.commit()
            async with connection.begin(), connection.begin_nested() as nested:
                await cast.User.query.create(name="dan")
                await nested.rollback()
        async with cast.models.database.engine.begin() as connection:
            await connection.execute(cast.User.__table__.insert().values(name="eve"))
        assert await names(cast) == ["ada", "cyd", "eve"]


async def test_transactions_nest_as_ever(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        async with cast.models.transaction() as outer:
            await cast.User.query.create(name="ada")
            await add_in_vain(cast, "bob")
            await outer.rollback()
            await cast.User.query.create(name="cyd")
        async with cast.models.transaction(force_rollback=True):
            await cast.User.query.create(name="dan")
        assert await names(cast) == ["cyd"]


async def test_callbacks_are_called_when_the_applications_own_transaction_ends(
    database_url: str,
) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        called: list[str] = []
        async with cast.models.transaction() as transaction:
            transaction.on_commit(partial(called.append, "sent"))
            assert called == []
        assert called == ["sent"]


async def test_a_read_only_transaction_stays_read_only(database_url: str) -> None:
    async with connected(database_url) as cast, rolled_back(cast):
        with pytest.raises(DBAPIError, match=r"read-?only"):
            async with cast.models.transaction(readonly=True):
                await cast.User.query.create(name="ada")
        async with cast.models.transaction(readonly=True):
            assert await names(cast) == []
        await cast.User.query.create(name="ada")


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT"])
async def test_an_isolation_level_is_accepted(postgres_url: str, level: str) -> None:
    async with connected(postgres_url) as cast, rolled_back(cast):
        async with cast.models.database.engine.connect() as connection:
            own = await connection.execution_options(isolation_level=level)
            await own.execute(cast.User.__table__.insert().values(name="ada"))
            await own.commit()
        if level != "AUTOCOMMIT":
            async with cast.models.transaction(isolation_level=level):  # type: ignore[arg-type]
                await cast.User.query.create(name="bob")
        assert "ada" in await names(cast)
        await cast.User.query.create(name="cyd")


async def test_tables_are_rolled_back_too(database_url: str) -> None:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        async with cast.models.rollback():
            await cast.models.create_all()
            await cast.User.query.create(name="ada")
        with pytest.raises(DBAPIError):
            await names(cast)
