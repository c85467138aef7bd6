"""Scopes carry the schema that they were opened in, for plain SQLAlchemy statements, too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import ConfigurationError, Registry, run_sync
from tests.support.postgres import PostgresServer
from tests.tenants.models import Letting, build, build_each, letting, make_letting, rows

pytestmark = pytest.mark.postgres


def statements(made: Letting) -> tuple[Any, Any]:
    table = made.House.__table__
    return select(table.c.name).order_by(table.c.name), insert(table)


async def seen_by(connection: AsyncConnection, made: Letting) -> list[str]:
    return list(await connection.scalars(statements(made)[0]))


async def options_of(connection: AsyncConnection) -> Mapping[str, Any]:
    return await connection.run_sync(lambda sync: sync.get_execution_options())


async def test_each_kind_of_scope_carries_it(postgres: PostgresServer, postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        _, insertion = statements(made)
        with made.models.with_schema("a"):
            async with made.models.connection() as connection:
                await connection.execute(insertion, {"tenant": "a", "name": "one"})
            async with made.models.transaction() as transaction:
                await transaction.connection.execute(insertion, {"tenant": "a", "name": "two"})
                assert (
                    await transaction.connection.run_sync(
                        lambda sync: sync.scalar(select(func.count()).select_from(made.House))
                    )
                    == 2
                )
            async with made.models.session() as session:
                session.add(made.House(tenant="a", name="flushed at the end"))
                assert len((await session.scalars(select(made.House))).all()) == 2 + 1
                raw = await session.connection()
                assert len(await seen_by(raw, made)) == 3
            async with made.models.session() as session:
                session.add(made.House(tenant="a", name="never looked at"))

    assert rows(postgres, postgres_url, "a") == [
        "flushed at the end",
        "never looked at",
        "one",
        "two",
    ]
    assert rows(postgres, postgres_url, "b") == rows(postgres, postgres_url, "public") == []


async def test_text_is_not_translated(postgres_url: str) -> None:
    async with letting(postgres_url, "a") as made:
        await build(made, None)
        with made.models.with_schema("a"):
            async with made.models.connection() as connection:
                assert await connection.scalar(text("SELECT name FROM houses")) == "of None"
                assert await seen_by(connection, made) == []


async def test_a_scope_stays_in_the_schema_it_was_opened_in(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b", None)
        with made.models.with_schema("a"):
            scope = made.models.transaction()
        with made.models.with_schema("b"):
            async with scope as transaction:  # entered in b
                with made.models.with_schema("a"):
                    assert await seen_by(transaction.connection, made) == ["of b"]
                    assert [house.name for house in await made.House.query] == ["of a"]
                    assert await seen_by(transaction.connection, made) == ["of b"]
                with made.models.with_schema(None):
                    assert [house.name for house in await made.House.query] == ["of None"]
                assert await made.House.query.using(schema="a").count() == 1
                assert await seen_by(transaction.connection, made) == ["of b"]


async def test_a_part_of_a_scope_has_a_schema_of_its_own(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b", None)
        models = made.models
        for outer in ("a", None):
            with models.with_schema(outer):
                async with models.transaction() as transaction:
                    with models.with_schema("b"):
                        async with models.session() as session:
                            session.add(made.House(tenant="b", name=f"inside {outer}"))
                        async with models.connection() as part:
                            assert "of b" in await seen_by(part, made)
                        async with models.transaction() as part_of_it:
                            assert "of b" in await seen_by(part_of_it.connection, made)
                    assert await seen_by(transaction.connection, made) == [f"of {outer}"]
    assert rows(postgres, postgres_url, "b") == ["inside None", "inside a", "of b"]


PARTS: dict[str, Any] = {
    "connection": lambda models: models.connection(),
    "session": lambda models: models.session(),
    "transaction": lambda models: models.transaction(),
}


@pytest.mark.parametrize("part", PARTS)
async def test_others_do_not_see_the_schema_of_a_part(postgres_url: str, part: str) -> None:
    """Whoever holds the outer connection goes on in his own schema while the part is open."""
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")
        models = made.models
        opened, done = asyncio.Event(), asyncio.Event()

        async def work_in_b() -> None:
            scope: AbstractAsyncContextManager[Any] = PARTS[part](models)
            with models.with_schema("b"):
                async with scope:
                    opened.set()
                    await done.wait()

        with models.with_schema("a"):
            async with models.transaction() as transaction, asyncio.TaskGroup() as tasks:
                tasks.create_task(work_in_b())
                await opened.wait()
                assert await seen_by(transaction.connection, made) == ["of a"]
                done.set()


async def test_statements_that_overlap_keep_their_schemas(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")
        with made.models.with_schema("a"):
            async with made.models.transaction() as transaction:
                for _ in range(20):
                    inner, outer = await asyncio.gather(
                        made.House.query.using(schema="b").values_list("name", flat=True),
                        seen_by(transaction.connection, made),
                    )
                    assert (inner, outer) == (["of b"], ["of a"])


async def test_a_task_that_was_not_started_inside_sees_the_schema_of_the_scope(
    postgres_url: str,
) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")
        given: asyncio.Queue[AsyncConnection] = asyncio.Queue()

        async def worker() -> list[str]:
            return await seen_by(await given.get(), made)

        stranger = asyncio.create_task(worker())
        with made.models.with_schema("a"):
            async with made.models.connection() as connection:
                given.put_nowait(connection)
                assert await stranger == ["of a"]


async def test_a_map_set_by_hand_is_sqlalchemys_own_affair(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b", None)
        await made.Town.query.create(name="common")
        async with made.models.connection() as connection:
            await connection.execution_options(schema_translate_map={None: "a"})
            assert await seen_by(connection, made) == ["of a"]
            assert [house.name for house in await made.House.query] == ["of None"]
            assert await seen_by(connection, made) == ["of a"]
            assert (await made.House.query.using(schema="b").get()).name == "of b"
            assert await seen_by(connection, made) == ["of a"]
        with made.models.with_schema("b"):
            async with made.models.connection() as connection:
                await connection.execution_options(isolation_level="SERIALIZABLE")
                await connection.execution_options(schema_translate_map={"elsewhere": "a"})
                assert await seen_by(connection, made) == ["of b"]
                options = await options_of(connection)
                assert options["isolation_level"] == "SERIALIZABLE"
                assert options["schema_translate_map"]["elsewhere"] == "a"


async def test_a_connection_goes_back_to_the_pool_without_a_schema(postgres_url: str) -> None:
    async with letting(postgres_url, "a", pool_size=1) as made:
        await build_each(made, "a", None)
        with made.models.with_schema("a"):
            await made.House.query.count()
            async with made.models.session() as session:
                await session.scalars(select(made.House))
        async with made.models.connection() as connection:
            assert await seen_by(connection, made) == ["of None"]
            assert "schema_translate_map" not in await options_of(connection)
        async with made.models.database.engine.connect() as connection:
            assert await seen_by(connection, made) == ["of None"]


async def test_synchronous_code_of_a_scope_is_in_its_schema(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")

        def read() -> list[str]:
            return [house.name for house in run_sync(made.House.query.all())]

        with made.models.with_schema("b"):
            assert await made.models.sync(read) == ["of b"]
            assert await asyncio.to_thread(read) == ["of b"]
            async with made.models.transaction():
                assert await made.models.sync(read) == ["of b"]


def test_a_schema_that_was_left_elsewhere_than_it_was_entered_says_so(postgres_url: str) -> None:
    block = make_letting(Registry(postgres_url)).models.with_schema("a")
    copy_context().run(block.__enter__)
    with pytest.raises(ConfigurationError, match=r"with_schema\('a'\).*has to be `async def`"):
        block.__exit__(None, None, None)


async def test_test_isolation_keeps_tenants_apart(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """All tasks are on one connection then, also those that have nothing to do with each other."""
    async with letting(postgres_url, "a", "b") as made:

        async def live(tenant: str) -> list[list[str]]:
            with made.models.with_schema(tenant):
                await build(made, tenant)
                async with made.models.session() as session:
                    session.add(made.House(tenant=tenant, name="flushed"))
                async with made.models.transaction() as transaction:
                    seen = await seen_by(transaction.connection, made)
                return [seen, [house.tenant for house in await made.House.query]]

        async with made.models.rollback():
            of_a, of_b = await asyncio.gather(live("a"), live("b"))
            assert of_a == [["flushed", "of a"], ["a", "a"]]
            assert of_b == [["flushed", "of b"], ["b", "b"]]
            async with made.models.connection() as connection:
                assert await seen_by(connection, made) == []
    for schema in ("a", "b", "public"):
        assert rows(postgres, postgres_url, schema) == []
