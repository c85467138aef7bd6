"""Models that are loaded plainly, each with its rows and with an attribute to change."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
)
from sqlalchemy.orm import (
    Mapped,
    WriteOnlyMapped,
    mapped_column,
    relationship,
)

from tests.orm.models_stored import Base, ByHand, Everything, Mood, Point, Renamed, Seat

TOKEN = ("audit", "tenant_a")


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")
    strict_books: Mapped[list[Book]] = relationship(lazy="raise", viewonly=True)
    many_books: WriteOnlyMapped[Book] = relationship(viewonly=True)


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(active_history=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


keyless = Table("keyless", Base.metadata, Column("code", Integer), Column("text", String))


class Keyless(Base):
    """What a view looks like: the database knows of no key."""

    __table__ = keyless
    __mapper_args__ = {"primary_key": [keyless.c.code]}


half_keyless = Table("half_keyless", Base.metadata, Column("a", Integer), Column("b", Integer))


class Whole(Base):
    __table__ = half_keyless
    __mapper_args__ = {"primary_key": [half_keyless.c.a, half_keyless.c.b]}


class Strict(Base):
    __table__ = half_keyless
    __mapper_args__ = {
        "primary_key": [half_keyless.c.a, half_keyless.c.b],
        "allow_partial_pks": False,
    }


EVERYTHING = {
    "name": "a",
    "ratio": 1 / 3,
    "is_active": True,
    "price": Decimal("12.30"),
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    "on": datetime.date(2026, 1, 2),
    "lasted": datetime.timedelta(hours=1, microseconds=5),
    "uid": uuid.UUID(int=5),
    "data": {"a": [1, None]},
    "blob": b"\0\xff",
    "mood": Mood.BAD,
    "note": None,
    "secret": "abc",
    "loud": "quiet",
}
# Each model, its rows, and the attribute to change.
ZOO: dict[type[Any], tuple[list[dict[str, Any]], tuple[str, Any]]] = {
    Everything: (
        [EVERYTHING, EVERYTHING | {"name": "b", "data": None, "note": "n"}],
        ("name", "c"),
    ),
    Author: ([{"name": "a"}, {"name": "b"}], ("name", "c")),
    Book: ([{"title": "a", "author_id": 1}, {"title": "b", "author_id": 1}], ("title", "c")),
    Versioned: ([{"name": "a", "version": 3}], ("name", "b")),
    Seat: ([{"number": 1, "row": "a"}, {"number": 1, "row": "b", "name": "x"}], ("name", "y")),
    Renamed: ([{"title_of_it": " a "}], ("label", "b")),
    Point: ([{"x": 1, "y": 2}, {"x": 3, "y": 7, "name": "n"}], ("y", 3)),
    ByHand: ([{"name": "a", "hidden": "h"}, {"name": "b"}], ("_name", "c")),
    Keyless: ([{"code": 1, "text": "a"}, {"code": 2}], ("text", "c")),
}
