"""``bulk_update``: some fields of many objects, all or none."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
)

from asgi_dbconn import ConfigurationError, ObjectNotFound, Queryable, Registry
from tests.orm.people import people


async def test_many_objects_are_updated(database_url: str) -> None:
    async with people(database_url) as cast:
        users = await cast.User.query.bulk_create(
            [{"name": f"{number}"} for number in range(2500)], returning=True
        )
        for user in users:
            user.age, user.name = user.id, f"not {user.name}"

        assert await cast.User.query.bulk_update(users, ["age"]) == 2500
        assert await cast.User.query.filter(cast.User.age == cast.User.id).count() == 2500
        assert await cast.User.query.filter(name__startswith="not").count() == 0
        # Stored is stored: what others have written since is not written over.
        await cast.User.query.update(age=0)
        await users[0].save()
        assert await cast.User.query.filter(id=users[0].id).values_list("name", "age") == [
            ("not 0", 0)
        ]


async def test_rows_that_are_gone_are_not_counted(database_url: str) -> None:
    async with people(database_url) as cast:
        users = await cast.User.query.bulk_create(
            [{"name": letter} for letter in "abc"], returning=True
        )
        await cast.User.query.filter(name="b").delete()
        for user in users:
            user.age = 1
        assert await cast.User.query.bulk_update(users, ["age"]) == 2
        assert await cast.User.query.filter(age=1).count() == 2


async def test_an_object_whose_row_is_gone_is_not_stored(database_url: str) -> None:
    async with people(database_url) as cast:
        ada, bob = [await cast.User.query.create(name=name) for name in ("ada", "bob")]
        await cast.User.query.filter(name="bob").delete()
        ada.age = bob.age = 5
        assert await cast.User.query.bulk_update([ada, bob], ["age"]) == 1
        is_changed = [inspect(user).attrs.age.history.has_changes() for user in (ada, bob)]
        assert is_changed == [False, True]
        with pytest.raises(ObjectNotFound):
            await bob.save()


async def test_an_update_of_many_is_all_or_none(database_url: str) -> None:
    async with people(database_url) as cast:
        users = await cast.User.query.bulk_create(
            [{"name": letter} for letter in "abc"], returning=True
        )
        for user in users:
            user.name += "!"
        users[2].name = "a!"
        with pytest.raises(IntegrityError):
            await cast.User.query.bulk_update(users, ["name"], batch_size=1)
        assert await cast.User.query.order_by("id").values_list("name", flat=True) == [*"abc"]
        users[2].name = "c!"
        await users[2].save()


async def test_two_that_update_the_same_rows_do_not_deadlock(database_url: str) -> None:
    async with people(database_url) as cast:
        await cast.User.query.bulk_create([{"name": f"{number}"} for number in range(300)])
        one, two = [await cast.User.query.order_by("id") for _ in range(2)]
        for number, users in enumerate((one, two)):
            for user in users:
                user.age = number
        await asyncio.gather(
            *(
                cast.User.query.bulk_update(users, ["age"])
                for _ in range(3)
                for users in (one, list(reversed(two)))
            )
        )
        assert len(set(await cast.User.query.values_list("age", flat=True))) == 1


async def test_a_composite_key_and_its_versions(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Seat(Base):
        __tablename__ = "seats"
        row: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        taken: Mapped[bool] = mapped_column(default=False)

    class Page(Base):
        __tablename__ = "pages"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    async with models:
        await models.create_all()
        seats = await Seat.query.bulk_create(
            [{"row": row, "number": number} for row in range(3) for number in range(3)],
            returning=True,
        )
        for seat in seats[::2]:
            seat.taken = True
        assert await Seat.query.bulk_update(seats[::2], ["taken"]) == 5
        assert await Seat.query.filter(taken=True).count() == 5
        assert (
            await Seat.query.bulk_create(
                [{"row": 0, "number": 0, "taken": False}], update_conflicts=["taken"]
            )
            == 1
        )
        assert await Seat.query.filter(taken=True).count() == 4
        with pytest.raises(ConfigurationError, match="counts versions"):
            await Page.query.bulk_update([], ["id"])
