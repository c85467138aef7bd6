"""Objects go back to where they came from, whatever is ambient."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
from sqlalchemy import inspect, select

from asgi_dbconn import ConfigurationError, Database, Registry, UnknownDatabase
from asgi_dbconn.orm.origin import origin_of
from tests.models import make_cast
from tests.support.postgres import PostgresServer
from tests.tenants.models import Letting, build, build_each, letting, rows

OTHERS = ("b", None)


async def found_by_query(made: Letting) -> Any:
    return await made.House.query.using(schema="a").get()


async def found_ambient(made: Letting) -> Any:
    with made.models.with_schema("a"):
        return await made.House.query.get(1)


async def found_in_stream(made: Letting) -> Any:
    async with made.House.query.using(schema="a").stream() as houses:
        (house,) = [house async for house in houses]
        return house


async def found_in_session(made: Letting) -> Any:
    with made.models.with_schema("a"):
        async with made.models.session() as session:
            return (await session.scalars(select(made.House))).one()


async def expunged(made: Letting) -> Any:
    with made.models.with_schema("a"):
        async with made.models.session() as session:
            house = await session.get(made.House, 1)
            session.expunge(house)
            return house


async def created_in_session(made: Letting) -> Any:
    with made.models.with_schema("a"):
        await made.House.query.delete()
        async with made.models.session() as session:
            house = made.House(id=1, tenant="a", name="of a")
            session.add(house)
    return house


async def created(made: Letting) -> Any:
    with made.models.with_schema("a"):
        await made.House.query.delete()
        return await made.House.query.create(id=1, tenant="a", name="of a")


async def saved(made: Letting) -> Any:
    house = made.House(id=1, tenant="a", name="of a")
    with made.models.with_schema("a"):
        await made.House.query.delete()
        await house.save()
    return house


async def related(made: Letting) -> Any:
    room = await made.Room.query.using(schema="a").prefetch_related("house").get()
    return room.house


async def joined(made: Letting) -> Any:
    return (await made.Room.query.using(schema="a").select_related("house").get()).house


async def pickled(made: Letting) -> Any:
    return _Pickled.of(await found_by_query(made))


async def copied(made: Letting) -> Any:
    return copy.deepcopy(await found_by_query(made))


class _Pickled:
    """Classes that are declared in a function are found by reference, so they are handed over."""

    @staticmethod
    def of(instance: Any) -> Any:
        import io

        written = io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, each: Any) -> str | None:
                return "its class" if each is type(instance) else None

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, _: str) -> Any:
                return type(instance)

        Pickler(written).dump(instance)
        return Unpickler(io.BytesIO(written.getvalue())).load()


WAYS = [
    found_by_query,
    found_ambient,
    found_in_stream,
    found_in_session,
    expunged,
    created_in_session,
    created,
    saved,
    related,
    joined,
    pickled,
    copied,
]


@pytest.mark.postgres
@pytest.mark.parametrize("ambient", OTHERS, ids=str)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_object_goes_back_to_its_schema(
    postgres: PostgresServer, postgres_url: str, way: Any, ambient: str | None
) -> None:
    async with letting(postgres_url, "a", "b") as made:
        if way not in (created, created_in_session, saved):
            await build(made, "a")
        await build_each(made, "b", None)
        house = await way(made)
        assert (house.id, house.name, origin_of(house)) == (1, "of a", (None, "a"))

        with made.models.with_schema(ambient):
            house.name = "changed"
            await house.save()
            assert rows(postgres, postgres_url, "a") == ["changed"]
            await made.House.query.using(schema="a").update(name="changed again")
            await house.refresh()
            assert house.name == "changed again"
            await made.Room.query.using(schema="a").delete()
            await house.delete()

    assert rows(postgres, postgres_url, "a") == []
    assert rows(postgres, postgres_url, "b") == ["of b"]
    assert rows(postgres, postgres_url, "public") == ["of None"]


@pytest.mark.postgres
async def test_an_object_of_no_schema_goes_back_to_none(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with letting(postgres_url, "a", schema="a") as made:
        await build_each(made, "a", None)
        house = await made.House.query.using(schema=None).get()
        house.name = "changed"
        await house.save()
        with made.models.with_schema(None):
            async with made.models.session() as session:
                other = (await session.scalars(select(made.House))).one()
        other.name = "changed again"
        await other.save()
    assert rows(postgres, postgres_url, "public") == ["changed again"]
    assert rows(postgres, postgres_url, "a") == ["of a"]


@pytest.mark.postgres
async def test_a_session_takes_its_own_objects_only(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")
        of_a = await made.House.query.using(schema="a").get()
        of_b = await made.House.query.using(schema="b").get()
        with made.models.with_schema("b"):
            async with made.models.session() as session:
                with pytest.raises(
                    ConfigurationError, match=r"came from the schema 'a' .* works in the schema 'b'"
                ):
                    session.add(of_a)
                session.add(of_b)
                of_b.name = "changed"
                assert await session.get(made.House, of_b.id) is of_b
        assert origin_of(of_b) == (None, "b")
        assert origin_of(of_a) == (None, "a")
        of_a.name = "changed, too"
        await of_a.save()
    assert rows(postgres, postgres_url, "a") == ["changed, too"]
    assert rows(postgres, postgres_url, "b") == ["changed"]


@pytest.mark.postgres
async def test_what_all_tenants_share_may_be_in_any_session(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with letting(postgres_url, "a", "b") as made:
        town = await made.Town.query.using(schema="a").create(name="one")
        with made.models.with_schema("b"):
            async with made.models.session() as session:
                session.add(town)
                town.name = "two"
    assert rows(postgres, postgres_url, "common", "towns") == ["two"]


@pytest.mark.postgres
async def test_a_copy_on_purpose_is_merge(postgres: PostgresServer, postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build(made, "a")
        of_a = await made.House.query.using(schema="a").get()
        with made.models.with_schema("b"):
            async with made.models.session() as session:
                of_b = await session.merge(of_a)
        of_b.name = "a copy"
        await of_b.save()
    assert rows(postgres, postgres_url, "a") == ["of a"]
    assert rows(postgres, postgres_url, "b") == ["a copy"]


async def test_an_object_of_a_session_elsewhere_goes_back_there(
    database_url: str, tmp_path: Any
) -> None:
    cast = make_cast(Registry(database_url, extra={"other": f"sqlite:///{tmp_path}/other.db"}))
    async with cast.models:
        for name in (None, "other"):
            async with cast.models.connection(name) as connection:
                await connection.run_sync(cast.models.metadata.create_all)
        async with cast.models.session("other") as session:
            ada = cast.User(name="ada")
            session.add(ada)
        ada.age = 36
        await ada.save()
        async with cast.models.session() as session:
            with pytest.raises(ConfigurationError, match="came from the database 'other' without"):
                session.add(ada)
        assert await cast.User.query.count() == 0
        assert (await cast.User.query.using(database="other").get()).age == 36


async def test_a_database_of_no_registry_is_never_taken_for_another(
    sqlite_url: str, tmp_path: Any
) -> None:
    cast = make_cast(Registry(sqlite_url))
    stranger = Database(f"sqlite:///{tmp_path}/stranger.db")
    async with cast.models:
        await cast.models.create_all()
        async with stranger:
            async with stranger.connection() as connection:
                await connection.run_sync(cast.models.metadata.create_all)
            ada = await cast.User.query.using(database=stranger).create(name="ada")
            ada.age = 1
            await ada.save()
            assert (await cast.User.query.using(database=stranger).get()).age == 1
        stranger = Database(f"sqlite:///{tmp_path}/another.db")
        connection = None  # type: ignore[assignment]
        gc.collect()
        ada.age = 2
        with pytest.raises(UnknownDatabase, match="belongs to no registry"):
            await ada.save()
    assert inspect(ada).detached


async def test_the_token_of_a_sharded_session_of_ones_own_is_no_origin(sqlite_url: str) -> None:
    cast = make_cast(Registry(sqlite_url))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="ada")
        async with cast.models.database.engine.connect() as connection:
            from sqlalchemy.ext.asyncio import AsyncSession

            async with AsyncSession(connection) as session:
                statement = select(cast.User).execution_options(identity_token="eu")
                ada = (await session.scalars(statement)).one()
        ada.age = 36
        await ada.save()
        assert (await cast.User.query.get()).age == 36
