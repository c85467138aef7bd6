"""Whatever a schema is called: it is used exactly so, or refused before any SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from asgi_dbconn import InvalidSchemaName, Registry
from tests.support.postgres import PostgresServer
from tests.tenants.hostile_names import hostile_names
from tests.tenants.models import Letting, build, letting, make_letting, rows

pytestmark = pytest.mark.postgres

NAMES = list(hostile_names(200))
OURS = {"public", "common"}


def schemas_in(postgres: PostgresServer, url: str) -> set[str]:
    found = postgres.fetch(
        r"""
        SELECT nspname FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
        """,
        database=url.rpartition("/")[2],
    )
    return {row["nspname"] for row in found}


def is_refused(made: Letting, name: str) -> bool:
    """By every door alike, and by none of them only halfway."""
    doors: list[Callable[[], Any]] = [
        lambda: Registry("sqlite://", schema=name),
        lambda: made.models.with_schema(name),
        lambda: made.House.query.using(schema=name),
    ]
    refusals = 0
    for door in doors:
        try:
            door()
        except InvalidSchemaName:
            refusals += 1
    assert refusals in (0, len(doors))
    return refusals > 0


async def use(made: Letting, name: str) -> None:
    """Every kind of statement that the package and SQLAlchemy make."""
    House, Room, models = made.House, made.Room, made.models
    await models.create_all(schema=name)
    house = await build(made, name, "built")
    with models.with_schema(name):
        (second,) = await House.query.bulk_create(
            [House(tenant=name, name="second")], returning=True
        )
        await House.query.bulk_create(
            [{"tenant": name, "name": str(number)} for number in range(3)]
        )
        await House.query.bulk_create([{"tenant": name, "name": "second"}], ignore_conflicts=True)
        await House.query.filter(name__in=["0", "1"]).delete()
        await House.query.filter(House.name == "2").update(name="third")
        async with models.session() as session:
            session.add_all([House(tenant=name, name=f"fourth {number}") for number in range(2)])
            assert await session.scalar(select(func.count()).select_from(House)) == len(WANTED)
        (found,) = await House.query.filter(rooms__tenant=name).prefetch_related("rooms")
        assert (found.name, [room.number for room in found.rooms]) == ("built", [1])
        async with House.query.stream(1) as houses:
            assert {house.tenant async for house in houses} == {name}
    second.name = "second, saved"
    await second.save()
    await second.refresh()
    assert await Room.query.using(schema=name).filter(house=house).count() == 1


WANTED = ["built", "fourth 0", "fourth 1", "second, saved", "third"]


async def test_two_hundred_names_are_used_exactly_or_refused(
    postgres: PostgresServer, postgres_url: str
) -> None:
    assert len(NAMES) == 200
    async with letting(postgres_url) as made:
        before = schemas_in(postgres, postgres_url)
        assert before == OURS
        used = 0
        for name in NAMES:
            if is_refused(made, name):
                with pytest.raises(InvalidSchemaName):
                    await made.models.create_all(schema=name)
                assert schemas_in(postgres, postgres_url) == before
                continue
            if name in OURS:
                continue
            try:
                await use(made, name)
            except Exception as error:
                error.add_note(f"in the schema {name!r}")
                raise
            assert schemas_in(postgres, postgres_url) == before | {name}
            assert rows(postgres, postgres_url, name) == WANTED
            assert rows(postgres, postgres_url, "public") == []
            await made.models.drop_all(schema=name)
            quoted = '"' + name.replace('"', '""') + '"'
            # Without CASCADE: it is empty, down to the last type and sequence.
            postgres.execute(f"DROP SCHEMA {quoted}", database=postgres_url.rpartition("/")[2])
            used += 1
    assert used > len(NAMES) / 2


async def test_names_that_differ_little_are_two_schemas(
    postgres: PostgresServer, postgres_url: str
) -> None:
    alike = [
        "tenant",
        "Tenant",
        "TENANT",
        "tenant ",
        "é",
        "e\u0301",
        "a.b",
        '"a"."b"',
        "a",
        "a" * 63,
    ]
    async with letting(postgres_url, *alike) as made:
        for name in alike:
            await build(made, name, name)
        for name in alike:
            assert [house.tenant for house in await made.House.query.using(schema=name)] == [name]
            assert rows(postgres, postgres_url, name) == [name]
    assert schemas_in(postgres, postgres_url) == OURS | set(alike)


def test_a_refusal_comes_before_any_sql(postgres_url: str) -> None:
    """Nothing is connected here, and a connection of its own would warn, which is an error."""
    made = make_letting(Registry(postgres_url))
    for name in NAMES:
        is_refused(made, name)
