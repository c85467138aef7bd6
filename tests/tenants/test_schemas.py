"""Which schema a query is about."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, String, Table, func, select
from sqlalchemy.orm import registry

from asgi_dbconn import InvalidSchemaName, Registry
from tests.support.postgres import PostgresServer
from tests.tenants.models import Letting, build, build_each, letting, make_letting, rows


async def names(made: Letting, **using: str | None) -> list[str]:
    query = made.House.query.using(**using) if using else made.House.query
    return [house.name for house in await query.order_by("name")]


@pytest.mark.postgres
async def test_the_nearest_word_counts(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b", "c", schema="a") as made:
        await build_each(made, "a", "b", "c", None)

        assert await names(made) == ["of a"]
        with made.models.with_schema("b"):
            assert await names(made) == ["of b"]
            assert await names(made, schema="c") == ["of c"]
            assert await names(made, schema=None) == ["of None"]
            with made.models.with_schema(None):
                assert await names(made) == ["of None"]
            with made.models.with_schema("c"):
                assert await names(made) == ["of c"]
            assert await names(made) == ["of b"]
        assert await names(made) == ["of a"]
        assert made.models.current_schema() == "a"


@pytest.mark.postgres
async def test_reading_stays_in_the_schema(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "b", "a", None)
        House, Room = made.House, made.Room

        with made.models.with_schema("a"):
            assert await House.query.count() == 1
            assert await House.query.filter(name="of b").exists() is False
            assert (await House.query.get(1)).name == "of a"
            assert await House.query.values_list("name", flat=True) == ["of a"]
            assert await House.query.filter(rooms__tenant="a").count() == 1
            assert await House.query.filter(rooms__tenant="b").count() == 0
            (house,) = await House.query.prefetch_related("rooms")
            (room,) = await Room.query.select_related("house")
            assert ([room.tenant for room in house.rooms], room.house.name) == (["a"], "of a")
            async with House.query.prefetch_related("rooms").stream(1) as houses:
                assert [[room.tenant for room in house.rooms] async for house in houses] == [["a"]]
            await house.refresh("rooms")
            assert [room.tenant for room in house.rooms] == ["a"]


@pytest.mark.postgres
async def test_writing_stays_in_the_schema(postgres: PostgresServer, postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "b", "a", None)
        House = made.House

        with made.models.with_schema("a"):
            assert await House.query.bulk_create([{"tenant": "a", "name": "bulk"}]) == 1
            (more,) = await House.query.bulk_create(
                [House(tenant="a", name="more")], returning=True
            )
            more.name = "many"
            assert await House.query.bulk_update([more], ["name"]) == 1
            for _ in range(2):
                await House.query.get_or_create({"tenant": "a"}, name="got")
                await House.query.update_or_create({"tenant": "a"}, name="put")
            assert await House.query.filter(name="bulk").update(name="bulky") == 1
            assert await House.query.filter(name="got").delete() == 1
            assert await House.query.order_by("name").limit(1).update(tenant="a") == 1

    assert rows(postgres, postgres_url, "a") == ["bulky", "many", "of a", "put"]
    assert rows(postgres, postgres_url, "b") == ["of b"]
    assert rows(postgres, postgres_url, "public") == ["of None"]


@pytest.mark.postgres
async def test_a_table_that_names_its_schema_stays_in_it(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with letting(postgres_url, "a", "b", schema="a") as made:
        await made.Town.query.create(name="one")
        with made.models.with_schema("b"):
            await made.Town.query.create(name="two")
            async with made.models.session() as session:
                session.add(made.Town(name="three"))
        await made.Town.query.using(schema=None).create(name="four")

        assert await made.Town.query.count() == 4
    assert rows(postgres, postgres_url, "common", "towns") == ["four", "one", "three", "two"]


@pytest.mark.postgres
async def test_any_mapped_class_has_schemas(postgres: PostgresServer, postgres_url: str) -> None:
    mapped = registry()

    class Plain:
        id: int
        name: str

    made = make_letting(Registry(postgres_url, schema="a"))
    mapped.map_imperatively(
        Plain,
        Table(
            "houses",
            mapped.metadata,
            Column("id", Integer, primary_key=True),
            Column("tenant", String, default="a"),
            Column("name", String),
        ),
    )
    async with made.models:
        await made.models.create_all()
        await made.models.query(Plain).create(name="plain")
        (found,) = await made.models.query(Plain)
        assert found.name == "plain"
        assert await made.House.query.count() == 1
    assert rows(postgres, postgres_url, "a") == ["plain"]


@pytest.mark.postgres
async def test_the_schema_is_that_of_the_moment_when_it_runs(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")
        query = made.House.query.order_by("name")

        for schema in ("a", "b"):
            with made.models.with_schema(schema):
                assert [house.tenant for house in await query] == [schema]


@pytest.mark.postgres
async def test_a_stream_stays_in_the_schema_it_was_entered_in(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        for schema in ("a", "b"):
            for number in range(3):
                await build(made, schema, f"{schema} {number}")
        seen = []
        with made.models.with_schema("a"):
            async with made.House.query.prefetch_related("rooms").stream(1) as houses:
                with made.models.with_schema("b"):
                    async for house in houses:
                        seen += [house.tenant, *(room.tenant for room in house.rooms)]
        assert seen == ["a", "a"] * 3


@pytest.mark.postgres
async def test_a_statement_compiled_in_one_schema_serves_another(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b", None)
        for schema in ("a", None, "b", "a", "b", None):
            assert await names(made, schema=schema) == [f"of {schema}"]


async def test_sqlite_has_no_schemas(sqlite_url: str) -> None:
    made = make_letting(Registry(sqlite_url))
    House, models = made.House, made.models

    async def in_schema(work: Any) -> None:
        with models.with_schema("a"):
            await work()

    async def entered(scope: Any) -> None:
        async with scope:
            raise AssertionError("entered")

    # Not connected: any SQL would warn, which is an error here.
    with pytest.raises(InvalidSchemaName, match="is SQLite, which has no schemas"):
        House.query.using(schema="a")
    for work in (
        House.query.count,
        lambda: House.query.create(tenant="a", name="x"),
        lambda: House(tenant="a", name="x").save(),
        lambda: House.query.get_or_create(name="x"),
        lambda: House.query.update_or_create(name="x"),
        lambda: House.query.bulk_create([{"name": "x"}]),
        lambda: House.query.filter(name="x"),
        lambda: entered(models.connection()),
        lambda: entered(models.session()),
        lambda: entered(models.transaction()),
        models.create_all,
        models.drop_all,
    ):
        with pytest.raises(InvalidSchemaName, match="Use a database of its own"):
            await in_schema(work)
    with pytest.raises(InvalidSchemaName):
        await models.create_all(schema="a")
    async with models:
        with pytest.raises(InvalidSchemaName):
            await in_schema(lambda: entered(House.query.stream()))


async def test_no_schema_can_be_said_on_sqlite(sqlite_url: str) -> None:
    models = Registry(sqlite_url)

    made = make_letting(models)
    async with models:
        async with models.connection() as connection:
            await connection.run_sync(made.House.__table__.create)
        with models.with_schema(None):
            assert await made.House.query.using(schema=None).count() == 0
            async with models.transaction() as transaction:
                count = select(func.count()).select_from(made.House)
                assert await transaction.connection.scalar(count) == 0
