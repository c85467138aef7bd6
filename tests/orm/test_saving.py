"""``save()`` of one object: what it stores, what it leaves as it is."""

from __future__ import annotations

import asyncio
from contextvars import Context
from functools import partial

import pytest
from sqlalchemy import func, inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from asgi_dbconn import ConfigurationError, ObjectNotFound, Queryable, Registry, TransactionAborted
from tests.orm.people import people, vanished
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until_async

WAITING = "SELECT wait_event_type FROM pg_stat_activity WHERE datname = $1"


def waits_for_a_lock(postgres: PostgresServer, url: str) -> bool:
    found = postgres.fetch(WAITING, url.rpartition("/")[2])
    return any(row == "Lock" for (row,) in found)


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
            with pytest.raises(ObjectNotFound, match=r"row of this User.*does not exist any more"):
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

        assert [str(outcome) for outcome in outcomes if outcome] == [
            "This User belongs to a session that is open, or is being stored by another task at "
            "this moment. Let that session flush or commit it. [DBC100]"
        ]
        assert (await cast.User.query.get(user.id)).age == 1


async def test_a_new_object_is_stored_once(database_url: str) -> None:
    async with people(database_url) as cast:
        user = cast.User(name="ada")
        outcomes = await asyncio.gather(user.save(), user.save(), return_exceptions=True)

        assert [type(outcome) for outcome in outcomes if outcome] == [ConfigurationError]
        assert await cast.User.query.count() == user.id == 1
        user.age = 1
        await user.save()  # and later on as any other


@pytest.mark.postgres
async def test_an_object_that_is_being_stored_enters_no_session(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with people(postgres_url) as cast:
        user = cast.User(name="ada")
        async with cast.models.transaction() as transaction:
            await cast.User.query.create(name="ada")
            # Outside of the transaction, which it waits for.
            saving = asyncio.get_running_loop().create_task(user.save(), context=Context())
            await wait_until_async(partial(waits_for_a_lock, postgres, postgres_url), 5.0)
            async with cast.models.session() as session:
                with pytest.raises(ConfigurationError, match="is being stored by another task"):
                    session.add(user)
            await transaction.rollback()
        await saving
        assert await cast.User.query.count() == 1


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
    async with people(postgres_url) as cast:
        user = await cast.User.query.create(name="ada")
        new = cast.User(name="bob")
        async with cast.models.transaction():
            await cast.User.query.update(age=1)
            await cast.User.query.create(name="bob")
            for instance in (user, new):
                instance.age = 5
                # Outside of the transaction, which it waits for.
                saving = asyncio.get_running_loop().create_task(instance.save(), context=Context())
                await wait_until_async(partial(waits_for_a_lock, postgres, postgres_url), 5.0)
                saving.cancel()
                await asyncio.wait([saving])
                assert saving.cancelled()
                assert instance.age == 5
            await cast.User.query.filter(name="bob").delete()
        await user.save()
        await new.save()
        assert await cast.User.query.values_list("age", flat=True) == [5, 5]


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


def test_a_class_without_a_registry_says_so() -> None:
    class Base(Queryable, DeclarativeBase):
        pass

    class Loose(Base):
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match="Loose is bound to no registry"):
        asyncio.run(Loose().save())
