"""``constraint_of``: which constraint refused a row, told by the driver's own fields."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, Registry
from asgi_dbconn.orm import Constraint, constraint_of


@asynccontextmanager
async def rooms(url: str) -> AsyncIterator[tuple[Registry, Any, Any]]:
    models = Registry(url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class House(Base):
        __tablename__ = "houses"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Room(Base):
        __tablename__ = "rooms"
        __table_args__ = (
            UniqueConstraint("floor", "Number", name="one_place"),
            CheckConstraint("size > 0", name="has_size"),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        floor: Mapped[int] = mapped_column(default=0)
        number: Mapped[int] = mapped_column("Number", default=0)
        size: Mapped[int] = mapped_column(default=1)
        title: Mapped[str | None]
        house_id: Mapped[int | None] = mapped_column(ForeignKey("houses.id", name="in_house"))

    Index("one_title", func.lower(Room.title), unique=True)
    async with models:
        await models.create_all()
        yield models, House, Room


async def refused(work: Awaitable[Any]) -> Constraint | None:
    with pytest.raises(DBAPIError) as caught:
        await work
    # SQLAlchemy's error and the driver's own tell the same.
    assert constraint_of(caught.value) == constraint_of(caught.value.driver_exception)
    return constraint_of(caught.value)


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


async def test_a_unique_constraint(database_url: str) -> None:
    async with rooms(database_url) as (_, _, Room):
        await Room.query.create(id=100, floor=1, number=1, title="hall")

        again = await refused(Room.query.create(floor=1, number=1))
        key = await refused(Room.query.create(id=100, floor=5))
        title = await refused(Room.query.create(floor=2, title="Hall"))

    if is_sqlite(database_url):
        assert again == Constraint("unique", None, ("floor", "Number"), "rooms")
        assert key == Constraint("unique", None, ("id",), "rooms")
        assert title == Constraint("unique", "one_title")
    else:
        assert again == Constraint("unique", "one_place", ("floor", "Number"), "rooms")
        assert key == Constraint("unique", "rooms_pkey", ("id",), "rooms")
        assert title == Constraint("unique", "one_title", ("lower(title::text)",), "rooms")


async def test_what_must_not_be_null_and_what_must_be_true(database_url: str) -> None:
    async with rooms(database_url) as (_, _, Room):
        await Room.query.create(id=1)

        null = await refused(Room.query.update(floor=None))
        size = await refused(Room.query.update(size=0))

    assert null == Constraint("not_null", None, ("floor",), "rooms")
    table = None if is_sqlite(database_url) else "rooms"
    assert size == Constraint("check", "has_size", (), table)


async def test_a_foreign_key_from_either_side(database_url: str) -> None:
    async with rooms(database_url) as (_, House, Room):
        await House.query.create(id=1)
        await Room.query.create(house_id=1)

        nowhere = await refused(Room.query.create(number=2, house_id=99))
        in_use = await refused(House.query.delete())

    # SQLite does not say which.
    named = ("in_house", (), "rooms")
    said = Constraint("foreign_key", *(() if is_sqlite(database_url) else named))
    assert (nowhere, in_use) == (said, said)


@pytest.mark.postgres
async def test_an_exclusion_and_a_restriction(postgres_url: str) -> None:
    async with rooms(postgres_url) as (models, House, Room):
        async with models.connection() as connection:
            for statement in (
                "ALTER TABLE rooms ADD CONSTRAINT apart EXCLUDE USING gist "
                "(int4range(floor, floor + 2) WITH &&)",
                "ALTER TABLE rooms DROP CONSTRAINT in_house",
                "ALTER TABLE rooms ADD CONSTRAINT in_house FOREIGN KEY (house_id) "
                "REFERENCES houses ON DELETE RESTRICT",
            ):
                await connection.execute(text(statement))
        await House.query.create(id=1)
        await Room.query.create(floor=1, house_id=1)

        apart = await refused(Room.query.create(floor=2))
        restricted = await refused(House.query.delete())

    assert apart == Constraint("exclusion", "apart", ("int4range(floor, floor + 2)",), "rooms")
    assert restricted == Constraint("foreign_key", "in_house", (), "rooms")


@pytest.mark.postgres
async def test_a_constraint_that_is_looked_at_when_the_transaction_commits(
    postgres_url: str,
) -> None:
    async with rooms(postgres_url) as (models, _, Room):
        async with models.connection() as connection:
            await connection.execute(
                text("ALTER TABLE rooms ALTER CONSTRAINT in_house DEFERRABLE INITIALLY DEFERRED")
            )

        async def late() -> None:
            async with models.transaction():
                await Room.query.create(house_id=99)

        assert await refused(late()) == Constraint("foreign_key", "in_house", (), "rooms")


def test_a_server_that_speaks_another_language() -> None:
    # What counts are the fields and the punctuation, so the words may be anything.
    class Violation(Exception):
        sqlstate = "23505"
        constraint_name = "users_name_key"
        table_name = "users"
        detail = "Schlüssel »(name)=(a)=(b)« existiert bereits."

    found = constraint_of(Violation())
    assert found == Constraint("unique", "users_name_key", ("name",), "users")
    Violation.detail = 'Key ("A, ""B""", c)=(1, 2) already exists.'
    found = constraint_of(Violation())
    assert found is not None
    assert found.columns == ('A, "B"', "c")
    Violation.detail = ""  # to who may not see the row
    assert constraint_of(Violation()) == Constraint("unique", "users_name_key", (), "users")


async def test_an_error_about_something_else_is_about_no_constraint(database_url: str) -> None:
    async with rooms(database_url) as (models, _, _):
        with pytest.raises(SQLAlchemyError) as caught:
            async with models.connection() as connection:
                await connection.execute(text("SELECT nothing FROM nowhere"))

    assert constraint_of(caught.value) is None
    assert constraint_of(ValueError("no")) is None
    assert constraint_of(DBAPIError("SELECT 1", None, None)) is None  # type: ignore[arg-type]


def test_the_package_stays_light_until_it_is_asked_for() -> None:
    code = """
import asgi_dbconn, sys
assert "sqlalchemy" not in sys.modules
from asgi_dbconn.orm import constraint_of
assert not {"asyncpg", "aiosqlite", "starlette"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
