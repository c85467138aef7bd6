"""Models beyond one plain table: inheritance, JSON, validators, proxies."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import JSON, Column, ForeignKey, Integer, Table
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    registry,
    relationship,
    validates,
)

from asgi_dbconn import ConfigurationError, Queryable, Registry


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

        assert [each.level for each in await Manager.query.order_by("name")] == [9, 1, 1]
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

    assert [type(each) for each in found] == [Manager, Employee]
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
