"""bulk_create and bulk_update: many rows, all or none, and nothing lost on the way."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import JSON, ForeignKey, func, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
    synonym,
)

from asgi_dbconn import ConfigurationError, FieldError, Queryable, Registry
from tests.models import make_cast
from tests.orm.people import people


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


def shop(models: Registry) -> Any:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Item(Base):
        __tablename__ = "items"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column("item_code", unique=True)
        sku: Mapped[str] = synonym("code")
        colour: Mapped[Colour | None]
        data: Mapped[Any | None] = mapped_column(JSON)
        stock: Mapped[int] = mapped_column(default=7)
        state: Mapped[str] = mapped_column(server_default="new")
        changed: Mapped[int] = mapped_column(default=0, onupdate=1)
        touched: Mapped[str | None] = mapped_column(onupdate=lambda: "yes")
        size: Mapped[int | None] = mapped_column(onupdate=func.length("four"))

        @property
        def shown(self) -> str:
            return self.code.upper()

    return Item


@asynccontextmanager
async def items(url: str) -> AsyncIterator[Any]:
    models = Registry(url)
    item = shop(models)
    async with models:
        await models.create_all()
        yield item


# -- bulk_create


@pytest.mark.parametrize("returning", [False, True])
async def test_five_thousand_rows(database_url: str, returning: bool) -> None:
    async with people(database_url) as cast:
        rows = [{"name": f"{number}", "age": number} for number in range(5000)]
        stored = await cast.User.query.bulk_create(rows, returning=returning)

        if returning:
            assert [(row.name, row.age) for row in stored] == [
                (row["name"], row["age"]) for row in rows
            ]
            assert all(inspect(row).detached and row.id for row in stored)
        else:
            assert stored == 5000
        assert await cast.User.query.count() == 5000


async def test_all_or_none(database_url: str) -> None:
    async with people(database_url) as cast:
        rows = [{"name": f"{number}"} for number in range(2500)] + [{"name": "0"}]
        for options in ({}, {"returning": True}, {"batch_size": 10, "returning": True}):
            with pytest.raises(IntegrityError):
                await cast.User.query.bulk_create(rows, **options)
            assert await cast.User.query.count() == 0


async def test_objects_and_dicts_with_different_fields(database_url: str) -> None:
    async with items(database_url) as Item:
        made = Item(code="b", stock=1)
        rows = [
            {"code": "a"},
            made,
            {"sku": "c", "colour": Colour.RED, "data": {"x": [1, None]}},
            Item(code="d", colour=Colour.BLUE, state="old"),
            {"code": "e", "colour": None, "data": None, "state": None, "stock": None},
        ]
        for returning, prefix in ((True, ""), (False, "again ")):
            for row in rows:
                if prefix:
                    values = row if isinstance(row, dict) else vars(row)
                    values[next(iter({"code", "sku"} & values.keys()))] += "2"
            await Item.query.bulk_create(rows, returning=returning)

        found = await Item.query.order_by("id").values_list("code", "stock", "state", "colour")
        assert found[:5] == [
            ("a", 7, "new", None),
            ("b", 1, "new", None),
            ("c", 7, "new", Colour.RED),
            ("d", 7, "old", Colour.BLUE),
            ("e", 7, "new", None),
        ]
        assert [row[1:] for row in found[5:]] == [row[1:] for row in found[:5]]
        assert (await Item.query.get(code="c")).data == {"x": [1, None]}
        # None that is given is JSON's null, as SQLAlchemy has it.
        assert await Item.query.filter(data__isnull=True).count() == 6
        assert inspect(made).transient  # given, and not touched
        one = await Item.query.create(code="f", state=None, stock=None)
        assert (one.state, one.stock) == ("new", 7)  # as in bulk


async def test_nothing_to_store_sends_nothing(database_url: str) -> None:
    async with people(database_url) as cast:
        assert await cast.User.query.bulk_create([]) == 0
        assert await cast.User.query.bulk_create(iter(()), returning=True) == []
        assert await cast.User.query.bulk_update([], ["age"]) == 0
        assert await cast.User.query.count() == 0


async def test_conflicts_are_ignored(database_url: str) -> None:
    async with people(database_url) as cast:
        await cast.User.query.bulk_create([{"name": f"{number}"} for number in range(0, 3000, 2)])
        rows = [{"name": f"{number}", "age": number} for number in range(3000)]

        assert await cast.User.query.bulk_create(rows, ignore_conflicts=True) == 1500
        assert await cast.User.query.filter(age=None).count() == 1500
        new = await cast.User.query.bulk_create(
            [{"name": "0"}, {"name": "new", "age": 5}, {"name": "newer"}],
            ignore_conflicts=True,
            returning=True,
        )
        assert [(row.name, row.age) for row in new] == [("new", 5), ("newer", None)]
        with pytest.raises(IntegrityError):  # another constraint than the one that may be broken
            await cast.User.query.bulk_create(
                [{"id": 99999, "name": "0"}], ignore_conflicts=True, unique_fields=["id"]
            )


@pytest.mark.parametrize("returning", [False, True])
async def test_conflicts_are_updated(database_url: str, returning: bool) -> None:
    async with items(database_url) as Item:
        await Item.query.bulk_create([{"code": "a"}, {"code": "b", "stock": 3}])
        stored = await Item.query.bulk_create(
            [
                {"code": "b", "stock": 4, "state": "seen"},
                {"code": "c", "stock": 5},
                Item(code="a", stock=6, state="seen"),
            ],
            update_conflicts=["stock"],
            unique_fields=["sku"],
            returning=returning,
        )

        if returning:
            assert {(row.code, row.stock, row.state) for row in stored} == {
                ("b", 4, "new"),
                ("c", 5, "new"),
                ("a", 6, "new"),
            }
        else:
            assert stored == 3
        columns = ("code", "stock", "state", "touched", "size")
        assert await Item.query.order_by("code").values_list(*columns) == [
            ("a", 6, "new", "yes", 4),  # an update, as any other
            ("b", 4, "new", "yes", 4),
            ("c", 5, "new", None, None),
        ]
        assert (
            await Item.query.bulk_create([{"id": 1, "code": "z"}], update_conflicts=["code"]) == 1
        )
        assert (await Item.query.get(1)).code == "z"


async def test_what_belongs_to_another_row_is_its_key(database_url: str) -> None:
    async with people(database_url) as cast:
        ada = await cast.User.query.create(name="ada")
        rows = [cast.Post(title="one", user=ada), {"title": "two", "user": ada}]
        assert await cast.Post.query.bulk_create(rows) == 2
        assert await cast.Post.query.values_list("user_id", flat=True) == [ada.id, ada.id]

        with pytest.raises(ConfigurationError, match=r"User in 'user' has not been stored"):
            cast.Post.query.bulk_create([{"user": cast.User(name="new")}])
        loaded = await cast.User.query.prefetch_related("posts").get(ada.id)
        with pytest.raises(ConfigurationError, match=r"'posts' of that User are loaded"):
            cast.Post.query.bulk_create([cast.Post(user=loaded)])


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an unknown field": (lambda c: c.User.query.bulk_create([{"nmae": 1}]), "no field 'nmae'"),
    "a collection": (lambda c: c.User.query.bulk_create([{"posts": []}]), "would lose the 'posts'"),
    "an object's collection": (
        lambda c: c.User.query.bulk_create([c.User(posts=[c.Post()])]),
        "would lose the 'posts'",
    ),
    "another class": (lambda c: c.User.query.bulk_create([c.Post()]), "not Post"),
    "no row": (lambda c: c.User.query.bulk_create([("name", "a")]), "not tuple"),
    "both": (
        lambda c: c.User.query.bulk_create([], ignore_conflicts=True, update_conflicts=["age"]),
        "give ignore_conflicts or update_conflicts",
    ),
    "fields for nothing": (
        lambda c: c.User.query.bulk_create([], unique_fields=["name"]),
        "nothing says what to do",
    ),
    "nothing to update with": (
        lambda c: c.User.query.bulk_create([{"name": "a"}], update_conflicts=["age"]),
        "a row without it would overwrite",
    ),
    "a batch of nothing": (lambda c: c.User.query.bulk_create([], batch_size=0), "at least 1"),
    "no fields": (lambda c: c.User.query.bulk_update([], []), "at least one field"),
    "a string": (lambda c: c.User.query.bulk_update([], "age"), "a list of at least one"),
    "a relation": (lambda c: c.User.query.bulk_update([], ["posts"]), "not a column"),
    "the key": (lambda c: c.User.query.bulk_update([], ["id"]), "primary key"),
    "a new object": (
        lambda c: c.User.query.bulk_update([c.User(name="a")], ["name"]),
        "not stored yet",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_sent(mistake: str) -> None:
    write, said = REFUSED[mistake]
    with pytest.raises((ConfigurationError, FieldError), match=said):
        write(make_cast(Registry("sqlite://")))


# -- inheritance, dataclasses


async def test_classes_that_inherit(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Animal(Base):
        __tablename__ = "animals"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str] = mapped_column(unique=True)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cat(Animal):
        lives: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "cat"}

    class Dog(Animal):
        __tablename__ = "dogs"
        id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
        tricks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    async with models:
        await models.create_all()
        assert await Cat.query.bulk_create([Cat(name="a", lives=9), {"name": "b"}]) == 2
        dogs = await Dog.query.bulk_create(
            [{"name": "c", "tricks": 1}, Dog(name="d", tricks=2)], returning=True
        )
        assert [(type(dog), dog.name, dog.tricks) for dog in dogs] == [
            (Dog, "c", 1),
            (Dog, "d", 2),
        ]
        assert await Cat.query.bulk_create([{"name": "a"}], ignore_conflicts=True) == 0
        assert await Cat.query.bulk_create([{"name": "e"}], ignore_conflicts=True) == 1
        with pytest.raises(ConfigurationError, match="several tables"):
            await Dog.query.bulk_create([], ignore_conflicts=True)

        for dog in dogs:
            dog.name, dog.tricks = dog.name.upper(), 10
        assert await Dog.query.bulk_update(dogs, ["name", "tricks"]) == 2

        found = await Animal.query.order_by("id")
        assert [(type(row), row.name) for row in found] == [
            (Cat, "a"),
            (Cat, "b"),
            (Dog, "C"),
            (Dog, "D"),
            (Cat, "e"),
        ]
        assert isinstance(found[2], Dog)
        assert found[2].tricks == 10


async def test_dataclasses_keep_their_defaults(database_url: str) -> None:
    models = Registry(database_url)

    class Base(MappedAsDataclass, Queryable, DeclarativeBase, registry=models):
        pass

    class Point(Base):
        __tablename__ = "points"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        x: Mapped[int] = mapped_column(default=3)
        y: Mapped[int] = mapped_column(insert_default=4, init=False)
        marks: Mapped[list[Mark]] = relationship(default_factory=list)

    class Mark(Base):
        __tablename__ = "marks"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        point_id: Mapped[int] = mapped_column(ForeignKey("points.id"), default=None)

    async with models:
        await models.create_all()
        await Point.query.create()
        await Point.query.bulk_create([Point(), Point(x=1), {}, {"x": 5}])
        assert await Point.query.order_by("id").values_list("x", "y") == [
            (3, 4),
            (3, 4),
            (1, 4),
            (3, 4),
            (5, 4),
        ]


async def test_a_conflict_gets_the_values_of_an_update(database_url: str) -> None:
    """Not the default of a new row, whatever kind of `onupdate` the column has."""
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Entry(Base):
        __tablename__ = "entries"
        code: Mapped[str] = mapped_column(primary_key=True)
        price: Mapped[int]
        edits: Mapped[int] = mapped_column(
            default=0, onupdate=text("edits + :step").bindparams(step=1)
        )
        state: Mapped[str] = mapped_column(default="new", onupdate="changed")
        touched: Mapped[str] = mapped_column(server_default="no", onupdate=lambda: "yes")
        length: Mapped[int] = mapped_column(default=0, onupdate=func.length("four"))

    async with models:
        await models.create_all()
        await Entry.query.create(code="a", price=1)
        for price in (2, 3):
            rows = [{"code": "a", "price": price}, {"code": f"new {price}", "price": price}]
            await Entry.query.bulk_create(rows, update_conflicts=["price"])

        found = await Entry.query.order_by("code").values_list(
            "price", "edits", "state", "touched", "length"
        )
        assert found == [
            (3, 2, "changed", "yes", 4),
            (2, 0, "new", "no", 0),
            (3, 0, "new", "no", 0),
        ]


async def test_dicts_get_the_defaults_of_a_dataclass(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, MappedAsDataclass, DeclarativeBase, registry=models):
        pass

    class Job(Base):
        __tablename__ = "jobs"
        id: Mapped[int] = mapped_column(init=False, primary_key=True)
        name: Mapped[str]
        state: Mapped[str | None] = mapped_column(default="new")
        tags: Mapped[str | None] = mapped_column(default_factory=lambda: "none")
        place: Mapped[str | None] = mapped_column(default=None, server_default="here")

    async with models:
        await models.create_all()
        jobs = Job.query
        await jobs.create(name="a")
        await jobs.bulk_create([{"name": "b"}])
        await jobs.bulk_create([{"name": "c"}], returning=True)
        await jobs.bulk_create([Job(name="d")])
        await jobs.get_or_create(name="e")
        await jobs.bulk_create([{"name": "f", "tags": "given"}])

        found = await jobs.order_by("name").values_list("state", "tags", "place")
        assert found == [("new", "none", "here")] * 5 + [("new", "given", "here")]
