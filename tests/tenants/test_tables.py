"""Creating and dropping the tables of one tenant."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.engine import make_url

from asgi_dbconn import Registry
from tests.support.postgres import PostgresServer
from tests.tenants.models import Letting, build, letting, make_letting, rows

pytestmark = pytest.mark.postgres

EVERYTHING = [
    "i houses_name_key",
    "i houses_pkey",
    "i rooms_pkey",
    "r houses",
    "r rooms",
    "S houses_id_seq",
    "S room_numbers",
    "S rooms_id_seq",
    "t mood",
]


def things_in(postgres: PostgresServer, url: str, schema: str) -> list[str]:
    """Tables, indexes, sequences and enum types, by the server's own catalogue."""
    found = postgres.fetch(
        """
        SELECT relkind::text || ' ' || relname AS said FROM pg_class
        WHERE relnamespace = $1::regnamespace
        UNION SELECT 't ' || typname FROM pg_type
        WHERE typnamespace = $1::regnamespace AND typtype = 'e'
        """,
        schema,
        database=url.rpartition("/")[2],
    )
    return sorted((row["said"] for row in found), key=str.lower)


async def test_a_schema_gets_everything_and_others_nothing(
    postgres: PostgresServer, postgres_url: str
) -> None:
    made = make_letting(Registry(postgres_url))
    async with made.models:
        await made.models.create_all(schema="a")
        await made.models.create_all(schema="a")  # what is there stays

        assert things_in(postgres, postgres_url, "a") == EVERYTHING
        assert things_in(postgres, postgres_url, "public") == []
        assert things_in(postgres, postgres_url, "common") == [
            "i towns_pkey",
            "r towns",
            "S towns_id_seq",
        ]

        with made.models.with_schema("b"):
            await made.models.create_all()
            assert things_in(postgres, postgres_url, "b") == EVERYTHING
            await made.models.drop_all()
        assert things_in(postgres, postgres_url, "b") == []
        assert things_in(postgres, postgres_url, "a") == EVERYTHING


async def test_dropping_a_tenant_leaves_what_is_shared(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await made.Town.query.create(name="stays")
        await build(made, "b")
        await made.models.drop_all(schema="a")
        await made.models.drop_all(schema="a")  # nothing there: nothing happens
        await made.models.drop_all(schema="never created")

        assert things_in(postgres, postgres_url, "a") == []
        assert rows(postgres, postgres_url, "common", "towns") == ["stays"]
        assert rows(postgres, postgres_url, "b") == ["of b"]
        await made.models.drop_all(schema=None)
        assert things_in(postgres, postgres_url, "common") == []
        assert things_in(postgres, postgres_url, "b") == EVERYTHING


async def test_an_enum_and_a_sequence_are_the_tenants_own(
    postgres: PostgresServer, postgres_url: str
) -> None:
    made = make_letting(Registry(postgres_url))
    async with made.models:
        for schema in ("a", "b"):
            await made.models.create_all(schema=schema)
            for _ in range(2):
                await build(made, schema, f"{schema} {_}")
        numbers = [
            await made.Room.query.using(schema=schema)
            .order_by("id")
            .values_list("number", flat=True)
            for schema in ("a", "b")
        ]
        moods = [house.mood.name for house in await made.House.query.using(schema="b")]

    assert numbers == [[1, 2], [1, 2]]
    assert moods == ["warm", "warm"]


async def test_many_create_the_same_schema_at_once(
    postgres: PostgresServer, postgres_url: str
) -> None:
    made = make_letting(Registry(postgres_url))
    async with made.models:
        await asyncio.gather(*(made.models.create_all(schema=schema) for schema in ("a", "b") * 5))
    for schema in ("a", "b"):
        assert things_in(postgres, postgres_url, schema) == EVERYTHING


async def test_a_schema_that_exists_takes_no_right_to_create_schemas(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    postgres.execute(
        'CREATE ROLE "a poor one" LOGIN; CREATE SCHEMA a; CREATE SCHEMA common;'
        'GRANT ALL ON SCHEMA a, common TO "a poor one"',
        database=name,
    )
    url = make_url(postgres_url).set(username="a poor one")
    try:
        made = make_letting(Registry(url))
        async with made.models:
            await made.models.create_all(schema="a")
            await build(made, "a")
        assert rows(postgres, postgres_url, "a") == ["of a"]
    finally:
        postgres.execute('DROP OWNED BY "a poor one"; DROP ROLE "a poor one"', database=name)


async def test_tables_are_created_inside_a_transaction_and_rolled_back_with_it(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async def create_and_fail(made: Letting) -> None:
        with made.models.with_schema("b"):
            async with made.models.transaction():
                await made.models.create_all(schema="a")
                await build(made, "a")
                await made.models.create_all()
                await build(made, "b")
                raise KeyError

    made = make_letting(Registry(postgres_url))
    async with made.models:
        with pytest.raises(KeyError):
            await create_and_fail(made)
    found = postgres.fetch(
        "SELECT FROM pg_namespace WHERE nspname IN ('a', 'b', 'common')",
        database=postgres_url.rpartition("/")[2],
    )
    assert found == []
