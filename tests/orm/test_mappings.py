"""Models beyond one plain table: what is created, saved, refreshed and deleted of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import JSON, Column, Computed, ForeignKey, Integer, Table, inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    WriteOnlyMapped,
    column_property,
    composite,
    mapped_column,
    registry,
    relationship,
    validates,
)

from asgi_dbconn import ConfigurationError, Queryable, Registry


@dataclass
class Point:
    x: int
    y: int


def staff(models: Registry) -> tuple[Any, Any]:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Employee(Base):
        __tablename__ = "employees"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}

    class Manager(Employee):
        __tablename__ = "managers"
        id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
        level: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "manager"}

    return Employee, Manager


async def test_an_update_of_joined_tables_changes_the_rows_that_match(database_url: str) -> None:
    models = Registry(database_url)
    _, Manager = staff(models)
    async with models:
        await models.create_all()
        for name in "abc":
            await Manager.query.create(name=name, level=1)

        assert await Manager.query.filter(name="a").update(level=9) == 1

        assert [manager.level for manager in await Manager.query.order_by("name")] == [9, 1, 1]
        with pytest.raises(ConfigurationError, match="another table"):
            Manager.query.update(name="z")
        with pytest.raises(ConfigurationError, match="several tables"):
            Manager.query.delete()


async def test_objects_of_a_subclass_come_whole(database_url: str) -> None:
    models = Registry(database_url)
    Employee, Manager = staff(models)
    async with models:
        await models.create_all()
        await Manager.query.create(name="a", level=3)
        await Employee.query.create(name="b")

        found = await Employee.query.order_by("name")

    assert [type(row) for row in found] == [Manager, Employee]
    assert found[0].level == 3


async def test_what_is_left_out_is_null_and_nobodys_business(database_url: str) -> None:
    models = Registry(database_url)
    validated: list[Any] = []

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        data: Mapped[Any | None] = mapped_column(JSON)
        email: Mapped[str | None]

        @validates("email")
        def check(self, _: str, value: str) -> str:
            validated.append(value)
            return value

    async with models:
        await models.create_all()
        thing = await Thing.query.create()
        assert (thing.data, thing.email, validated) == (None, None, [])
        assert await Thing.query.filter(data__isnull=True).count() == 1


async def test_related_objects_under_another_name_are_stored_along_or_not_at_all(
    database_url: str,
) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Tag(Base):
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(unique=True)
        author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))

        def __init__(self, text: str) -> None:
            self.text = text

    class Author(Base):
        __tablename__ = "authors"
        id: Mapped[int] = mapped_column(primary_key=True)
        tag_objects: Mapped[list[Tag]] = relationship()
        tags: AssociationProxy[list[str]] = association_proxy("tag_objects", "text")

    async with models:
        await models.create_all()
        await Author.query.create(tags=["x"])
        with pytest.raises(IntegrityError):
            await Author.query.create(tags=["y", "x"])
        assert await Author.query.count() == 1
        assert await Tag.query.count() == 1


async def test_a_class_mapped_by_hand_is_found_in_the_database_of_its_table() -> None:
    models = Registry("sqlite://", extra={"audit": "sqlite://"})
    table = Table("by_hand", models.metadatas["audit"], Column("id", Integer, primary_key=True))

    class ByHand:
        id: int

    registry().map_imperatively(ByHand, table)
    async with models:
        await models.create_all()
        await models.query(ByHand).create()
        assert await models.query(ByHand).count() == 1


async def test_an_object_of_several_tables_is_stored_in_all_of_them(database_url: str) -> None:
    models = Registry(database_url)
    Employee, Manager = staff(models)
    async with models:
        await models.create_all()
        await Manager.query.create(name="a", level=1)
        (boss,) = await Employee.query  # by the class above
        boss.name, boss.level = "b", 2
        await boss.save()
        assert await Manager.query.values_list("name", "level") == [("b", 2)]

        await Employee.query.update(name="c")
        await boss.refresh()
        assert (boss.name, boss.level) == ("c", 2)
        await boss.delete()
        assert await Employee.query.count() == 0


async def test_values_that_the_database_computes_are_never_stale(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Box(Base):
        __tablename__ = "boxes"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        width: Mapped[int] = mapped_column()
        height: Mapped[int] = mapped_column()
        area: Mapped[int] = mapped_column(Computed("width * height", persisted=True))
        around: Mapped[int] = column_property(2 * (width + height))

    async with models:
        await models.create_all()
        box = await Box.query.create(width=2, height=3)
        assert (box.area, box.around) == (6, 10)
        box.width = 4
        await box.save()
        assert (box.area, box.around) == (12, 14)
        await Box.query.update(height=1)
        await box.refresh()
        assert (box.area, box.around) == (4, 10)
        assert not inspect(box).unloaded


async def test_composites_and_mutable_values_notice_changes_in_place(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Place(Base):
        __tablename__ = "places"
        id: Mapped[int] = mapped_column(primary_key=True)
        at: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))
        tags: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)

    async with models:
        await models.create_all()
        created = await Place.query.create(at=Point(1, 2), tags={"a": 1})
        loaded = await Place.query.get(created.id)
        for number, place in enumerate((created, loaded)):
            await place.refresh()
            place.tags[f"{number}"] = True
            place.at = Point(number, 9)
            await place.save()
            place.tags["saved"] = number  # and once more
            await place.save()
            stored = await Place.query.get(created.id)
            assert (stored.at, stored.tags) == (place.at, place.tags)
        assert loaded.tags == {"a": 1, "0": True, "saved": 1, "1": True}


async def test_many_to_many_and_trees(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    both = Table(
        "both",
        Base.metadata,
        Column("a", ForeignKey("nodes.id"), primary_key=True),
        Column("b", ForeignKey("labels.id"), primary_key=True),
    )

    class Label(Base):
        __tablename__ = "labels"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Node(Base):
        __tablename__ = "nodes"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
        parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id")
        children: Mapped[list[Node]] = relationship(
            back_populates="parent", cascade="all, delete-orphan"
        )
        labels: Mapped[list[Label]] = relationship(secondary=both)

    async with models:
        await models.create_all()
        labels = await Label.query.bulk_create([{}, {}, {}], returning=True)
        await Node.query.create(labels=labels[:2], children=[Node(children=[Node()])])
        root = await Node.query.prefetch_related("labels", "children").get(parent=None)
        root.labels.remove(root.labels[0])
        root.labels.append(labels[2])
        await root.save()
        await root.refresh("labels")
        assert sorted(label.id for label in root.labels) == [2, 3]

        (child,) = root.children
        leaf = await Node.query.get(parent=child)
        leaf.parent = root  # of which the collection is loaded
        await leaf.save()
        assert await Node.query.filter(parent=root).count() == 2
        await root.delete()
        assert await Node.query.count() == 0
        assert await Label.query.count() == 3


async def test_collections_that_are_never_loaded_take_new_objects(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        entries: WriteOnlyMapped[Entry] = relationship()

    class Entry(Base):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)
        account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))

    async with models:
        await models.create_all()
        account = await Account.query.create()
        account.entries.add(Entry())
        account.entries.add_all([Entry(), Entry()])
        await account.save()
        assert await Entry.query.filter(account_id=account.id).count() == 3


async def test_objects_that_compare_by_value(database_url: str) -> None:
    models = Registry(database_url)

    class Base(MappedAsDataclass, Queryable, DeclarativeBase, registry=models):
        """Its objects are equal if their fields are, and so cannot be hashed."""

    class Coin(Base):
        __tablename__ = "coins"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        value: Mapped[int]
        purse_id: Mapped[int | None] = mapped_column(ForeignKey("purses.id"), default=None)

    class Purse(Base):
        __tablename__ = "purses"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        coins: Mapped[list[Coin]] = relationship(default_factory=list, order_by="Coin.id")

    async with models:
        await models.create_all()
        purse = await Purse.query.create(coins=[Coin(value=1), Coin(value=1)])
        purse.coins.append(Coin(value=1))
        await purse.save()
        assert await Coin.query.filter(purse_id=purse.id).count() == 3
        again = await Purse.query.prefetch_related("coins").get(purse.id)
        assert again == purse
        await again.coins[0].delete()
        assert await Coin.query.count() == 2
