"""Models of all kinds of columns, to be loaded and stored by a Session and without one."""

from __future__ import annotations

import datetime
import enum
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Numeric,
    Sequence,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    func,
    text,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    WriteOnlyMapped,
    class_mapper,
    mapped_column,
    orm_insert_sentinel,
    relationship,
    synonym,
    validates,
)

__all__ = [
    "Base",
    "ByHand",
    "Child",
    "Defaulted",
    "Everything",
    "Mood",
    "OfIdentity",
    "OfPython",
    "OfSequence",
    "Parent",
    "Point",
    "Renamed",
    "Seat",
    "table_of",
]


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Reversed(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value[::-1]

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return value and value[::-1]


class NeverNone(TypeDecorator[str]):
    """NULL is read as an empty text."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> str:
        return value or ""


class Shouted(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def column_expression(self, column: Any) -> Any:
        return func.upper(column)


class Trimmed(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.trim(bindparam)


class Everything(Base):
    __tablename__ = "everything"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    ratio: Mapped[float | None]
    is_active: Mapped[bool | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    at: Mapped[datetime.datetime | None]
    on: Mapped[datetime.date | None]
    lasted: Mapped[datetime.timedelta | None]
    uid: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    data: Mapped[Any | None] = mapped_column(JSON)
    no_null: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    blob: Mapped[bytes | None] = mapped_column(LargeBinary)
    mood: Mapped[Mood | None]
    note: Mapped[str | None] = mapped_column(Text)
    secret: Mapped[str | None] = mapped_column(Reversed)
    never_none: Mapped[str | None] = mapped_column(NeverNone)
    loud: Mapped[str | None] = mapped_column(Shouted)
    trim: Mapped[str | None] = mapped_column(Trimmed)
    twice: Mapped[int] = mapped_column(Computed("id * 2", persisted=True))


def from_the_others(context: Any) -> str:
    """A default that looks at what else is stored."""
    values = context.get_current_parameters()
    return ", ".join(f"{name}={values[name]}" for name in ("name", "size") if name in values)


class Defaulted(Base):
    """Everything that fills itself in, on the way in and on every change."""

    __tablename__ = "defaulted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(default=7)
    word: Mapped[str | None] = mapped_column(default=lambda: "called")
    seen: Mapped[str | None] = mapped_column(default=from_the_others)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2), server_default="1.50")
    length: Mapped[int | None] = mapped_column(default=func.length("four"))
    both: Mapped[int | None] = mapped_column(default=1, server_default="2")
    at: Mapped[datetime.datetime | None] = mapped_column(
        DateTime, server_default=text("'2026-01-02 03:04:05'")
    )
    reversed: Mapped[str | None] = mapped_column(Reversed, default="abc")
    twice: Mapped[int | None] = mapped_column(Computed("size * 2", persisted=True))
    changed: Mapped[int | None] = mapped_column(onupdate=5)
    called: Mapped[str | None] = mapped_column(onupdate=lambda: "again")
    measured: Mapped[int | None] = mapped_column(onupdate=func.length("changed"))


class OfPython(Base):
    """A key that Python makes, and no RETURNING."""

    __tablename__ = "of_python"
    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: "made")
    name: Mapped[str | None]


class OfSequence(Base):
    __tablename__ = "of_sequence"
    id: Mapped[int] = mapped_column(Sequence("of_sequence_numbers"), primary_key=True)
    name: Mapped[str | None]


class OfIdentity(Base):
    __tablename__ = "of_identity"
    id: Mapped[int] = mapped_column(Identity(start=5), primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2), server_default="1.50")
    cost: Mapped[Decimal | None] = mapped_column(Numeric(10, 2), server_default="2.50")


class Seat(Base):
    __tablename__ = "seats"
    name: Mapped[str | None]
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row: Mapped[str] = mapped_column(primary_key=True)


class Renamed(Base):
    __tablename__ = "renamed"
    # Neither in the order of the table nor by its names.
    label: Mapped[str] = mapped_column("name", key="title_of_it")
    key: Mapped[int] = mapped_column("id", primary_key=True)
    title: Mapped[str] = synonym("label")
    sentinel: Mapped[int | None] = orm_insert_sentinel()

    @hybrid_property
    def loud_label(self) -> str:
        return self.label.upper()

    @loud_label.inplace.setter
    def _loud_label(self, value: str) -> None:
        self.label = value.upper()

    @loud_label.inplace.expression
    @classmethod
    def _of_loud_label(cls) -> Any:
        return func.upper(cls.label)

    @validates("label")
    def check(self, _: str, value: str) -> str:
        return value.strip()  # which nobody does to what is loaded


class Point(MappedAsDataclass, Base):
    __tablename__ = "points"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    x: Mapped[int]
    y: Mapped[int] = mapped_column(default=7)
    name: Mapped[str | None] = mapped_column(default=None)
    tags: Mapped[Any | None] = mapped_column(JSON, default_factory=dict)


class Parent(Base):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    children: Mapped[list[Child]] = relationship(back_populates="parent")
    written: WriteOnlyMapped[Child] = relationship(viewonly=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.remembered = len(self.children)  # makes an empty collection of it


class Child(Base):
    __tablename__ = "children"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey(Parent.id))
    parent: Mapped[Parent | None] = relationship(back_populates="children")


by_hand = Table(
    "by_hand",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String),
    Column("hidden", String, default="h"),
)


class ByHand:
    pass


Base.registry.map_imperatively(ByHand, by_hand, column_prefix="_", exclude_properties=["hidden"])


def table_of(model: type[Any]) -> Table:
    table = class_mapper(model).local_table
    assert isinstance(table, Table)
    return table
