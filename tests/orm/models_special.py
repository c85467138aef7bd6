"""Mapped classes, each with something special about it, and who listens to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Integer, MetaData, String, Table, event
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    reconstructor,
    registry,
    relationship,
)

__all__ = [
    "Pair",
    "declared",
    "doubled",
    "inherited",
    "listening",
    "many_related",
    "mutable",
    "related",
    "remembered",
    "thing",
    "thing_with",
]


class Pair:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y


Properties = Callable[[type[Any], Any], dict[str, Any]]


def thing(
    properties: Properties = lambda cls, c: {},
    of: Callable[[Table], Any] = lambda table: table,
    **arguments: Any,
) -> type[Any]:
    """A class mapped to a table, or to what ``of`` makes of it, with these properties."""
    table = Table(
        "things",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String),
        Column("x", Integer),
        Column("y", Integer),
        Column("parent_id", ForeignKey("things.id")),
    )
    cls = type("Thing", (), {})
    registry().map_imperatively(cls, of(table), properties=properties(cls, table.c), **arguments)
    return cls


def related(lazy: Any) -> type[Any]:
    return thing(
        lambda cls, c: {"parent": relationship(cls, remote_side=c.id, lazy=lazy, viewonly=True)}
    )


def many_related(lazy: Any) -> type[Any]:
    return thing(lambda cls, c: {"children": relationship(cls, lazy=lazy, viewonly=True)})


def remembered() -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)

        @reconstructor
        def remember(self) -> None:
            self.is_remembered = True

    return Thing


def mutable() -> type[Any]:
    return thing_with(mapped_column(MutableDict.as_mutable(JSON)))


def doubled() -> type[Any]:
    cls = thing_with(mapped_column(Integer))
    cls.again = column_property(cls.__table__.c.other)
    return cls


def declared() -> tuple[Any, Any]:
    """A declarative base and a class of nothing but a key."""

    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Base, Thing


def thing_with(column: Any) -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        other = column

    return Thing


def inherited(subclass_table: str | None, polymorphic: str | None, **arguments: Any) -> Any:
    """A class and its subclass."""

    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "parents"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": polymorphic, "polymorphic_identity": "parent"}

    class Child(Parent):
        __tablename__ = subclass_table  # type: ignore[assignment]
        if subclass_table:
            id: Mapped[int] = mapped_column(ForeignKey("parents.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "child", **arguments}

    return Parent, Child


@contextmanager
def listening(target: Any, name: str, **arguments: Any) -> Iterator[None]:
    def listener(*_: Any, **__: Any) -> None:
        """Hears of it, and does nothing."""

    event.listen(target, name, listener, **arguments)
    try:
        yield
    finally:
        event.remove(target, name, listener)
