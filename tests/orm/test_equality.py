"""Two objects of the same row are equal; a new one is equal to itself only."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Table, create_engine
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    relationship,
)

from asgi_dbconn import Database, Queryable, Registry

MODELS = Registry("sqlite://")


class Base(Queryable, DeclarativeBase, registry=MODELS):
    pass


FOLLOWS = Table(
    "follows",
    Base.metadata,
    Column("follower_id", ForeignKey("people.id"), primary_key=True),
    Column("followed_id", ForeignKey("people.id"), primary_key=True),
)


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    following: Mapped[list[Person]] = relationship(
        secondary=FOLLOWS,
        primaryjoin="Person.id == follows.c.follower_id",
        secondaryjoin="Person.id == follows.c.followed_id",
    )
    pets: Mapped[set[Pet]] = relationship(back_populates="owner")
    pet_names = association_proxy("pets", "name", creator=lambda name: Pet(name=name))


class Work(Base):
    __tablename__ = "works"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "work"}


class Book(Work):
    __mapper_args__ = {"polymorphic_identity": "book"}


class Pet(Base):
    __tablename__ = "pets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    owner: Mapped[Person | None] = relationship(back_populates="pets")


class Tagged(Base):
    """Equal by its name, as its author wants it."""

    __tablename__ = "tagged"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class PlainBase(Queryable, MappedAsDataclass, DeclarativeBase, registry=MODELS):
    pass


class Point(PlainBase):
    __tablename__ = "points"
    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    x: Mapped[int]


@asynccontextmanager
async def stored(url: str) -> AsyncIterator[Database]:
    """A database with Ada, who follows Bob, and owns two pets."""
    async with Database(url) as database:
        async with database.connection() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.run_sync(PlainBase.metadata.create_all)
        people = Person.query.using(database=database)
        bob = await people.create(name="bob")
        ada = await people.create(name="ada", following=[bob])
        for name in ("rex", "tom"):
            await Pet.query.using(database=database).create(name=name, owner_id=ada.id)
        yield database


def people(database: Database) -> Any:
    return Person.query.using(database=database)


async def test_objects_of_the_same_row_are_equal(database_url: str) -> None:
    async with stored(database_url) as database:
        bob, again = await people(database).get(name="bob"), await people(database).get(name="bob")
        ada = await people(database).prefetch_related("following").get(name="ada")

        assert bob == again
        assert hash(bob) == hash(again)
        assert bob != ada
        assert bob in ada.following
        assert {bob, again, ada} == {bob, ada}
        ada.following.remove(again)
        assert ada.following == []


def test_new_objects_are_equal_to_themselves_only() -> None:
    one, other = Person(name="x"), Person(name="x")
    assert one == one
    assert one != other
    assert len({one, other}) == 2
    assert one != "x"
    assert Person(id=1) != Person(id=1)  # the user may give it a key before it is stored


async def test_a_hierarchy_shares_its_keys(database_url: str) -> None:
    async with stored(database_url) as database:
        book = await Book.query.using(database=database).create()
        found = await Work.query.using(database=database).get(book.id)
        pet = await Pet.query.using(database=database).get(book.id)
        assert found == book
        assert type(found) is Book
        assert pet != book


async def test_an_object_is_found_in_a_set_whatever_becomes_of_it(database_url: str) -> None:
    async with stored(database_url) as database:
        new = Person(name="new")
        held = {new}
        async with database.transaction() as transaction:
            stored_one = await people(database).create(name="other")
            held.add(stored_one)
            assert stored_one in held
            await transaction.rollback()
        assert stored_one in held
        assert new in held

        ada = await people(database).get(name="ada")
        held.add(ada)
        found = await people(database).get(name="ada")
        await Pet.query.using(database=database).delete()
        async with database.connection() as connection:
            await connection.execute(FOLLOWS.delete())
        await ada.delete()
        assert ada in held
        assert ada != found  # it is a new object now


async def test_rows_of_two_databases_are_not_equal(tmp_path: Path) -> None:
    async with (
        stored(f"sqlite:///{tmp_path / 'one'}") as one,
        stored(f"sqlite:///{tmp_path / 'two'}") as two,
    ):
        here, there = await people(one).get(1), await people(two).get(1)
        assert here != there
        assert hash(here) == hash(there)
        assert here not in [there]


async def test_an_object_in_a_session_is_equal_to_those_of_its_database(tmp_path: Path) -> None:
    models = Registry(
        f"sqlite:///{tmp_path / 'one'}", extra={"two": f"sqlite:///{tmp_path / 'two'}"}
    )

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Town(Base):
        __tablename__ = "towns"
        id: Mapped[int] = mapped_column(primary_key=True)

    async with models:
        await models.create_all()
        async with models.connection("two") as connection:
            await connection.run_sync(Base.metadata.create_all)
        here, there = [
            await Town.query.using(database=database).create() for database in (None, "two")
        ]
        for database, same, different in ((None, here, there), ("two", there, here)):
            async with models.session(database) as session:
                held = await session.get(Town, 1)
                assert held == same
                assert held != different


@pytest.mark.postgres
async def test_rows_of_two_schemas_are_not_equal(postgres_url: str) -> None:
    models = Registry(postgres_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Town(Base):
        __tablename__ = "towns"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Country(Base):
        __tablename__ = "countries"
        __table_args__ = {"schema": "common"}
        id: Mapped[int] = mapped_column(primary_key=True)

    async with models:
        for schema in ("a", "b"):
            await models.create_all(schema=schema)
            await Town.query.using(schema=schema).create()
        await Country.query.create()
        town_a, town_b = [await Town.query.using(schema=schema).get() for schema in ("a", "b")]
        assert town_a != town_b
        with models.with_schema("a"):
            async with models.session() as session:
                held = await session.get(Town, 1)
                assert held == town_a
                assert held != town_b
        # A table that names its schema has one row for all.
        countries = [await Country.query.using(schema=schema).get() for schema in ("a", "b")]
        assert countries[0] == countries[1]


async def test_pickles_and_copies_are_equal_and_carry_no_hash(database_url: str) -> None:
    async with stored(database_url) as database:
        ada = await people(database).prefetch_related("pets__owner").get(name="ada")
        hash(ada)
        rex = next(pet for pet in ada.pets if pet.name == "rex")
        for start in (ada, rex):  # a cycle, from each of its ends
            for twin in (pickle.loads(pickle.dumps(start)), copy.deepcopy(start)):
                assert twin == start
                assert "_asgi_dbconn_hash" not in str(twin.__dict__)
                found = twin if start is ada else twin.owner
                assert {pet.name for pet in found.pets} == {"rex", "tom"}
                assert all(pet in found.pets for pet in list(found.pets))
                assert all(pet.owner is found for pet in found.pets)


async def test_a_set_collection_and_a_proxy_of_it(database_url: str) -> None:
    async with stored(database_url) as database:
        ada = await people(database).prefetch_related("pets").get(name="ada")
        rex = await Pet.query.using(database=database).get(name="rex")
        assert rex in ada.pets
        assert ada.pet_names == {"rex", "tom"}
        new = Pet(name="new")
        ada.pets.add(new)
        assert new in ada.pets
        await ada.save()
        assert new in ada.pets
        assert await Pet.query.using(database=database).get(name="new") == new


async def test_a_session_tells_its_objects_apart_as_before(database_url: str) -> None:
    async with stored(database_url) as database:
        outside = await people(database).get(name="ada")
        async with database.session() as session:
            inside = await session.get(Person, outside.id)
            assert inside in session
            assert outside not in session
            session.add_all([one := Person(name="x"), other := Person(name="x")])
            await session.flush()
            assert one != other
            assert {one, other} == set(session) - {inside}


def test_what_defines_its_own_equality_keeps_it() -> None:
    assert Tagged(name="a") == Tagged(name="a")
    assert len({Tagged(name="a"), Tagged(name="a")}) == 1
    assert Point(x=1) == Point(x=1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(x=1))


def test_objects_of_no_database_of_ours_are_equal_by_their_key(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Person(name="x"))
        session.commit()
        found = session.get_one(Person, 1)
        with Session(engine) as other:
            assert other.get_one(Person, 1) == found
    engine.dispose()
