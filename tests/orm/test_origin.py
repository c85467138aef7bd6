"""Where objects go when they are stored: to where they came from."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from asgi_dbconn import ConfigurationError, Queryable, Registry
from tests.models import make_cast
from tests.orm.people import people


async def test_an_object_goes_back_to_its_database(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url, extra={"other": f"sqlite:///{tmp_path / 'other.db'}"})
    cast = make_cast(models)
    User = cast.User
    async with models:
        await models.create_all()
        async with models.connection("other") as connection:
            await connection.run_sync(models.metadata.create_all)
        here = await User.query.create(name="here")
        elsewhere = User.query.using(database="other")
        there = await elsewhere.create(name="there", posts=[cast.Post(title="one")])
        loaded = await elsewhere.get(1)
        await loaded.refresh("posts")
        streamed = []
        async with elsewhere.prefetch_related("posts").stream() as users:
            streamed += [user async for user in users]
        (bulk,) = await elsewhere.bulk_create([{"name": "bulk"}], returning=True)
        made, _ = await elsewhere.get_or_create(name="made")

        for number, user in enumerate((there, loaded, streamed[0], bulk, made)):
            for instance in (user, copy.deepcopy(user)):
                instance.age = number
                async with models.transaction():  # of another database
                    await instance.save()
                assert (await elsewhere.get(instance.id)).age == number
        for user in (there, loaded, streamed[0]):
            (post,) = user.posts
            post.title = "changed"
            await post.save()
            await cast.Post.query.using(database="other").update(title="again")
            await post.refresh()
            assert post.title == "again"
        await there.refresh()
        await bulk.delete()

        assert await elsewhere.filter(name="bulk").count() == 0
        assert await User.query.values_list("name", "age") == [("here", None)]
        await here.refresh()
        with pytest.raises(ConfigurationError, match=r"belongs to .*, and the User comes from"):
            await cast.Post(title="x", user=there).save()
        post = await cast.Post.query.using(database="other").create(title="x", user=there)
        assert post.user_id == there.id


class Base(Queryable, DeclarativeBase, registry=Registry("sqlite://")):
    """At the top of a module, where pickle finds it."""


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    long: Mapped[str | None] = mapped_column(deferred=True)


async def test_pickled_objects_know_where_they_came_from(tmp_path: Path) -> None:
    models, _ = Note.__dbconn__
    assert isinstance(models, Registry)
    elsewhere = Registry(f"sqlite:///{tmp_path / 'elsewhere.db'}").database
    async with models, elsewhere:
        for database in (models.database, elsewhere):
            async with database.connection() as connection:
                await connection.run_sync(Note.metadata.create_all)
        notes = [
            await Note.query.create(text="a"),
            await Note.query.using(database=elsewhere).create(text="b"),
        ]
        for note in notes:
            note.text += "!"
            await pickle.loads(pickle.dumps(note)).save()  # what was changed comes along
            again = pickle.loads(pickle.dumps(note))
            await again.refresh()
            assert again.text == note.text

        assert await Note.query.values_list("text", flat=True) == ["a!"]
        assert await Note.query.using(database=elsewhere).values_list("text", flat=True) == ["b!"]


async def test_a_shallow_copy_is_refused(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada")
        shallow = copy.copy(user)
        shallow.age = 1
        for verb in (shallow.save(), shallow.delete(), shallow.refresh()):
            with pytest.raises(ConfigurationError, match=r"copy\.copy.*copy\.deepcopy"):
                await verb


@pytest.mark.postgres
async def test_an_object_goes_back_to_its_schema(postgres_url: str) -> None:
    async with people(postgres_url) as cast:
        models = cast.models
        for schema in ("a", "b"):
            await models.create_all(schema=schema)
            with models.with_schema(schema):
                await cast.User.query.create(name=schema, posts=[cast.Post(title=schema)])
        users = [
            await cast.User.query.using(schema=schema).prefetch_related("posts").get(1)
            for schema in ("a", "b")
        ]
        with models.with_schema("a"):
            for user in users:
                user.age = 1
                user.posts.append(cast.Post(title=f"new {user.name}"))
                await user.save()
                await user.posts[0].refresh()
                await user.posts[0].delete()
            with pytest.raises(ConfigurationError, match=r"belongs to .*, and the User comes from"):
                await cast.Post.query.create(title="x", user=users[1])
        for schema in ("a", "b"):
            posts = cast.Post.query.using(schema=schema)
            assert await posts.values_list("title", flat=True) == [f"new {schema}"]
            assert (await cast.User.query.using(schema=schema).get()).age == 1


async def test_a_deferred_column_that_was_loaded_is_refreshed() -> None:
    models, _ = Note.__dbconn__
    assert isinstance(models, Registry)
    async with models:
        await models.create_all()
        note = await Note.query.create(text="a", long="one")
        await Note.query.update(long="two")
        await note.refresh()
        assert note.long == "two"
        fresh = await Note.query.get(note.id)
        await fresh.refresh()
        assert "long" in inspect(fresh).unloaded
        await fresh.refresh("long")
        assert fresh.long == "two"


@pytest.mark.postgres
async def test_a_table_that_names_its_schema_is_the_same_for_everybody(postgres_url: str) -> None:
    models = Registry(postgres_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Country(Base):
        __tablename__ = "countries"
        __table_args__ = {"schema": "public"}
        id: Mapped[int] = mapped_column(primary_key=True)

    class Town(Base):
        __tablename__ = "towns"
        id: Mapped[int] = mapped_column(primary_key=True)
        country_id: Mapped[int] = mapped_column(ForeignKey("public.countries.id"))
        country: Mapped[Country] = relationship()

    async with models:
        await models.create_all(schema="a")
        country = await Country.query.create()
        with models.with_schema("a"):
            town = await Town.query.create(country=country)
            same = await Country.query.get(country.id)
        town.country = same
        await town.save()
        assert await Town.query.using(schema="a").filter(country=same).count() == 1
