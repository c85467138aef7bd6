"""``save()``, ``delete()`` and ``refresh()``: what they store, what they leave, where they go."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey, event, func, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError, StaleDataError

from asgi_dbconn import (
    ConfigurationError,
    FieldError,
    ObjectNotFound,
    Queryable,
    Registry,
    TransactionAborted,
)
from tests.cast import Cast, make_cast
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until_async

WAITING = "SELECT wait_event_type FROM pg_stat_activity WHERE datname = $1"


@asynccontextmanager
async def people(url: str, **options: Any) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url, **options))
    async with cast.models:
        await cast.models.create_all()
        yield cast


async def vanished(cast: Cast) -> Any:
    """An object whose row somebody else has deleted."""
    user = await cast.User.query.create(id=77, name="gone")
    assert await cast.User.query.filter(name="gone").delete() == 1
    return user


# -- save


async def test_a_new_object_is_inserted_and_complete(database_url: str) -> None:
    async with people(database_url) as cast:
        user = cast.User(name="ada")
        await user.save()
        post = cast.Post(user_id=user.id)
        await post.save()

        assert inspect(post).detached
        assert (post.id, post.title) == (1, "untitled")
        assert (await cast.User.query.get(user.id)).name == "ada"


async def test_a_changed_object_sends_what_was_changed_and_no_more(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada", age=1)
        await cast.User.query.update(age=2)  # somebody else

        user.name = "eve"
        await user.save()

        assert await cast.User.query.values_list("name", "age") == [("eve", 2)]
        assert not inspect(user).modified


async def test_an_unchanged_object_sends_nothing(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await vanished(cast)
        await user.save()  # nobody was asked
        user.name = user.name
        await user.save()


async def test_what_was_refused_stays_as_it_is_and_can_be_mended(database_url: str) -> None:
    async with people(database_url, pool_size=1) as cast:
        await cast.User.query.create(name="ada", age=1)
        bob = await cast.User.query.prefetch_related("posts").get(
            (await cast.User.query.create(name="bob", age=2)).id
        )
        new = cast.User(name="ada", age=3)
        for user in (bob, new):
            user.name, user.age = "ada", 9
            with pytest.raises(IntegrityError):
                await user.save()
            assert (user.name, user.age) == ("ada", 9)
            user.name = f"not ada {user.id}"
            await user.save()
        bob.posts.append(cast.Post(id=1, title="one"))
        await bob.save()
        await cast.Post.query.create(id=7, user_id=bob.id)
        bob.posts.append(cast.Post(id=7, title="the key of another"))
        with pytest.raises(IntegrityError):
            await bob.save()
        bob.posts[1].id = 2
        await bob.save()

        assert await cast.User.query.filter(age=9).count() == 2
        assert await cast.Post.query.order_by("id").values_list("id", "user_id") == [
            (1, bob.id),
            (2, bob.id),
            (7, bob.id),
        ]


async def test_a_vanished_row_is_an_error(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await vanished(cast)
        user.age = 3
        for verb in (user.save(), user.delete(), user.refresh(), user.refresh("posts")):
            with pytest.raises(ObjectNotFound, match=r"row of this User.*not there any more"):
                await verb
        assert user.age == 3


@pytest.mark.parametrize("scope", ["connection", "session", "transaction"])
async def test_who_finds_a_row_vanished_in_a_scope_may_go_on(database_url: str, scope: str) -> None:
    async with people(database_url) as cast:
        async with getattr(cast.models, scope)():
            await cast.User.query.create(name="before")
            user = await vanished(cast)
            user.age = 3
            with pytest.raises(ObjectNotFound):
                await user.save()
            with pytest.raises(ObjectNotFound):
                await user.delete()
            await cast.User.query.create(name="after")

        assert await cast.User.query.order_by("id").values_list("name", flat=True) == [
            "before",
            "after",
        ]


@pytest.mark.parametrize("scope", ["connection", "transaction"])
async def test_half_a_graph_is_never_committed(database_url: str, scope: str) -> None:
    async with people(database_url) as cast:
        user = await vanished(cast)
        with pytest.raises(TransactionAborted):
            async with getattr(cast.models, scope)():
                await cast.User.query.create(name="before")
                # Its own row can be inserted, that of the related one is gone.
                post = cast.Post(title="t", user=user)
                user.age = 3
                with pytest.raises(ObjectNotFound):
                    await post.save()
                await cast.User.query.create(name="after")

        assert await cast.User.query.count() == 0
        async with cast.models.transaction():
            await cast.User.query.create(name="before")
            user.age = 4
            with pytest.raises(ObjectNotFound):
                async with cast.models.transaction():
                    await post.save()
        assert await cast.User.query.count() == 1


async def test_a_value_may_be_an_expression(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada", age=1)
        await cast.User.query.update(age=10)
        user.age = cast.User.age + 1
        await user.save()
        assert user.age == 11


async def test_a_primary_key_may_be_changed(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada")
        user.id = 500
        await user.save()
        user.age = 3
        await user.save()
        assert await cast.User.query.values_list("id", "age") == [(500, 3)]


async def test_what_only_left_out_stays_out(database_url: str) -> None:
    async with people(database_url) as cast:
        await cast.User.query.create(name="ada", age=1)
        user = await cast.User.query.only("name").get(1)
        user.name = "eve"
        await user.save()

        assert inspect(user).unloaded == {"age", "posts"}
        await user.refresh()
        assert (user.name, user.age) == ("eve", 1)


async def test_an_object_can_be_stored_by_one_task_at_a_time(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada")
        user.age = 1
        outcomes = await asyncio.gather(user.save(), user.save(), return_exceptions=True)

        assert [str(each) for each in outcomes if each] == [
            "This User belongs to a session that is open, or is being stored by another task at "
            "this moment. Let that session flush or commit it. [DBC100]"
        ]
        assert (await cast.User.query.get(user.id)).age == 1


async def test_an_object_of_an_open_session_is_that_sessions(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada")
        async with cast.models.session() as session:
            session.add(user)
            user.age = 1
            with pytest.raises(ConfigurationError, match="belongs to a session that is open"):
                await user.save()
        assert (await cast.User.query.get(user.id)).age == 1


@pytest.mark.postgres
async def test_a_cancelled_save_can_be_done_again(
    postgres: PostgresServer, postgres_url: str
) -> None:
    def waits_for_a_lock() -> bool:
        found = postgres.fetch(WAITING, postgres_url.rpartition("/")[2])
        return any(each == "Lock" for (each,) in found)

    async with people(postgres_url) as cast:
        user = await cast.User.query.create(name="ada")
        new = cast.User(name="bob")
        async with cast.models.transaction():
            await cast.User.query.update(age=1)
            await cast.User.query.create(name="bob")
            for each in (user, new):
                each.age = 5
                # Outside of the transaction, which it waits for.
                saving = asyncio.get_running_loop().create_task(each.save(), context=Context())
                await wait_until_async(waits_for_a_lock, 5.0)
                saving.cancel()
                await asyncio.wait([saving])
                assert saving.cancelled()
                assert each.age == 5
            await cast.User.query.filter(name="bob").delete()
        await user.save()
        await new.save()
        assert await cast.User.query.values_list("age", flat=True) == [5, 5]


# -- what hangs on it


async def test_what_is_new_or_changed_among_related_objects_is_stored_along(
    database_url: str,
) -> None:
    async with people(database_url) as cast:
        await cast.User.query.create(name="ada", posts=[cast.Post(title="one"), cast.Post()])
        ada = await cast.User.query.prefetch_related("posts").get(name="ada")
        one, two = ada.posts
        assert (two.title, two.user_id) == ("untitled", ada.id)

        ada.posts.append(cast.Post(title="three"))
        one.title = "changed"  # ada itself is not
        await ada.save()

        assert [each.id for each in ada.posts] == [1, 2, 3]
        assert not inspect(ada.posts[2]).unloaded - {"user"}
        assert await cast.Post.query.order_by("id").values_list("title", flat=True) == [
            "changed",
            "untitled",
            "three",
        ]
        two.title = "by itself"
        await two.save()
        assert (await cast.Post.query.get(2)).title == "by itself"


async def test_the_same_row_again_is_no_change(database_url: str) -> None:
    async with people(database_url) as cast:
        ada = await cast.User.query.create(name="ada")
        await cast.Post.query.create(title="t", user_id=ada.id)
        post = await cast.Post.query.select_related("user").get()
        assert post.user is not ada

        post.user, post.title = ada, "changed"
        await post.save()

        assert post.user is ada
        assert (await cast.Post.query.get()).title == "changed"


async def test_two_objects_for_one_row_are_refused(database_url: str) -> None:
    async with people(database_url) as cast:
        await cast.User.query.create(name="ada", posts=[cast.Post(), cast.Post()])
        ada = await cast.User.query.prefetch_related("posts").get(name="ada")
        ada.posts.append(await cast.Post.query.get(1))
        with pytest.raises(ConfigurationError, match=r"Two Post objects for the row \(1,\)"):
            await ada.save()


async def test_a_relation_does_not_outlive_its_foreign_key(database_url: str) -> None:
    async with people(database_url) as cast:
        ada = await cast.User.query.create(name="ada", posts=[cast.Post()])
        bob = await cast.User.query.create(name="bob")
        post = await cast.Post.query.select_related("user").get(1)
        post.user_id = bob.id
        await post.save()
        with pytest.raises(DetachedInstanceError):
            _ = post.user
        await post.refresh("user")
        assert post.user.name == "bob"

        await cast.Post.query.update(user_id=ada.id)
        await post.refresh()
        assert "user" in inspect(post).unloaded

        post.user = bob  # the relation wins over its column
        await post.save()
        assert (post.user_id, post.user) == (bob.id, bob)


async def test_a_row_that_leaves_a_collection_is_stored_along(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Owner(Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="x")
        pets: Mapped[list[Pet]] = relationship(order_by="Pet.id")
        toys: Mapped[list[Toy]] = relationship(cascade="all, delete-orphan")

    class Pet(Base):
        __tablename__ = "pets"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))

    class Toy(Base):
        __tablename__ = "toys"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))

    async with models:
        await models.create_all()
        await Owner.query.create(pets=[Pet(), Pet()], toys=[Toy(), Toy()])
        owner = await Owner.query.prefetch_related("pets", "toys").get()
        del owner.pets[0], owner.toys[0]
        await owner.save()
        assert await Pet.query.order_by("id").values_list("owner_id", flat=True) == [None, 1]
        assert await Toy.query.count() == 1

        fresh = await Owner.query.get()
        await fresh.delete()  # loads what is concerned by itself
        assert await Pet.query.values_list("owner_id", flat=True) == [None, None]
        assert await Toy.query.count() == 0


async def test_listeners_that_store_something_are_a_part_of_it(database_url: str) -> None:
    async with people(database_url) as cast:

        def write_down(mapper: Any, connection: Any, user: Any) -> None:
            connection.execute(text("INSERT INTO posts (title, user_id) VALUES ('log', 0)"))

        event.listen(cast.User, "after_insert", write_down)
        with pytest.raises(IntegrityError):  # there is no user 0
            await cast.User.query.create(name="ada")
        assert await cast.User.query.count() == 0
        event.remove(cast.User, "after_insert", write_down)
        await cast.User.query.create(name="ada")


# -- delete


async def test_a_deleted_object_can_be_stored_anew(database_url: str) -> None:
    async with people(database_url) as cast:
        for model, values in ((cast.User, {"name": "ada"}), (cast.Post, {"user_id": 1})):
            instance = await model.query.create(**values)
            await instance.delete()
            assert await model.query.count() == 0
            with pytest.raises(ObjectNotFound, match="has not been stored"):
                await instance.delete()
            await instance.save()
            assert await model.query.count() == 1


async def test_a_refused_delete_leaves_the_object(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Tag(Base):
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Use(Base):
        __tablename__ = "uses"
        id: Mapped[int] = mapped_column(primary_key=True)
        tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id"))

    async with models:
        await models.create_all()
        tag = await Tag.query.create(name="x")
        use = await Use.query.create(tag_id=tag.id)
        with pytest.raises(IntegrityError):
            await tag.delete()
        assert tag.name == "x"
        await use.delete()
        await tag.delete()


# -- refresh


async def test_refresh_takes_what_is_stored(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada", age=1)
        await cast.User.query.update(age=2)
        user.name = "lost"
        await user.refresh("age")
        assert (user.name, user.age) == ("lost", 2)
        await user.refresh()
        assert (user.name, user.age) == ("ada", 2)
        await user.save()
        assert (await cast.User.query.get()).name == "ada"


async def test_refresh_loads_relations(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada", posts=[cast.Post(title="one")])
        user = await cast.User.query.get(user.id)
        await user.refresh("posts")
        assert [each.title for each in user.posts] == ["one"]
        user.posts[0].title = "two"
        await user.posts[0].save()
        assert (await cast.Post.query.get()).title == "two"

        post = await cast.Post.query.get()
        await post.refresh("user", "title")
        assert (post.user.name, post.title) == ("ada", "two")
        with pytest.raises(FieldError, match=r"nothing called 'psots'.*There are: age, id, name"):
            await user.refresh("psots")
        with pytest.raises(ObjectNotFound, match="has not been stored"):
            await cast.User(name="new").refresh()


async def test_an_unloaded_relation_says_that_the_object_is_detached(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada")
        user = await cast.User.query.get(user.id)
        with pytest.raises(DetachedInstanceError, match="lazy load operation of attribute 'posts'"):
            _ = user.posts


# -- where it goes


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
            for each in (user, copy.deepcopy(user)):
                each.age = number
                async with models.transaction():  # of another database
                    await each.save()
                assert (await elsewhere.get(each.id)).age == number
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
        with pytest.raises(ConfigurationError, match="come from different databases"):
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
            await cast.User.query.using(schema=each).prefetch_related("posts").get(1)
            for each in ("a", "b")
        ]
        with models.with_schema("a"):
            for user in users:
                user.age = 1
                user.posts.append(cast.Post(title=f"new {user.name}"))
                await user.save()
                await user.posts[0].refresh()
                await user.posts[0].delete()
            with pytest.raises(ConfigurationError, match="different databases or schemas"):
                await cast.Post.query.create(title="x", user=users[1])
        for schema in ("a", "b"):
            posts = cast.Post.query.using(schema=schema)
            assert await posts.values_list("title", flat=True) == [f"new {schema}"]
            assert (await cast.User.query.using(schema=schema).get()).age == 1


# -- counters and clocks


async def test_a_version_that_somebody_else_has_written_is_sqlalchemys_error(
    database_url: str,
) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Page(Base):
        __tablename__ = "pages"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    async with models:
        await models.create_all()
        mine = await Page.query.create(text="a")
        theirs = await Page.query.get(mine.id)
        theirs.text = "b"
        await theirs.save()
        assert theirs.version == 2
        mine.text = "c"
        with pytest.raises(StaleDataError):
            await mine.save()
        assert mine.text == "c"
        for verb in (mine.save, mine.delete):  # again: trying does not help
            with pytest.raises(StaleDataError):
                await verb()
            assert (mine.text, mine.version) == ("c", 1)

        await mine.refresh("version")
        await mine.save()
        assert await Page.query.values_list("text", "version") == [("c", 3)]
        await mine.delete()
        assert await Page.query.count() == 0


async def test_columns_that_fill_themselves_in_are_complete(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Row(Base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(unique=True)
        changes: Mapped[int] = mapped_column(default=0, onupdate=lambda: 7)
        size: Mapped[int] = mapped_column(default=0, onupdate=func.length("four"))

    async with models:
        await models.create_all()
        row = await Row.query.create(text="a")
        row.text = "b"
        await row.save()
        assert inspect(row).unloaded == set()
        assert (row.changes, row.size) == (7, 4)

        other = await Row.query.create(text="c")
        other.text = "b"
        with pytest.raises(IntegrityError):
            await other.save()
        assert (other.text, other.changes, other.size) == ("b", 0, 0)


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


def test_a_class_without_a_registry_says_so() -> None:
    class Base(Queryable, DeclarativeBase):
        pass

    class Loose(Base):
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match="Loose is bound to no registry"):
        asyncio.run(Loose().save())
