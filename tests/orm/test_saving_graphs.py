"""Objects related to the saved one are stored along with it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ForeignKey, event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from asgi_dbconn import ConfigurationError, Queryable, Registry
from tests.orm.people import people


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

        assert [post.id for post in ada.posts] == [1, 2, 3]
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
