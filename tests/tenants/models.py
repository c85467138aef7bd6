"""Houses with rooms, let in several schemas: every row says to which tenant it belongs."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ForeignKey, Sequence
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from asgi_dbconn import Queryable, Registry
from tests.support.postgres import PostgresServer


class Mood(enum.Enum):
    warm = "warm"
    cold = "cold"


@dataclass(frozen=True)
class Letting:
    models: Registry
    House: Any
    Room: Any
    Town: Any
    """In a schema of its own, common to all tenants."""


def make_letting(models: Registry) -> Letting:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class House(Base):
        __tablename__ = "houses"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[str]
        name: Mapped[str] = mapped_column(unique=True)
        mood: Mapped[Mood | None]
        rooms: Mapped[list[Room]] = relationship(back_populates="house")

    class Room(Base):
        __tablename__ = "rooms"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant: Mapped[str]
        number: Mapped[int] = mapped_column(Sequence("room_numbers"))
        house_id: Mapped[int] = mapped_column(ForeignKey("houses.id"))
        house: Mapped[House] = relationship(back_populates="rooms")

    class Town(Base):
        __tablename__ = "towns"
        __table_args__ = {"schema": "common"}
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return Letting(models, House, Room, Town)


@asynccontextmanager
async def letting(url: str, *tenants: str, **options: Any) -> AsyncIterator[Letting]:
    """Connected, with the tables of each tenant, and those of no tenant, all of them empty."""
    made = make_letting(Registry(url, **options))
    async with made.models:
        await made.models.create_all(schema=None)
        for tenant in tenants:
            await made.models.create_all(schema=tenant)
        yield made


async def build(made: Letting, schema: str | None, name: str | None = None) -> Any:
    """A house with one room, where both say which schema they are for."""
    tenant = str(schema)
    return await made.House.query.using(schema=schema).create(
        tenant=tenant,
        name=name or f"of {tenant}",
        mood=Mood.warm,
        rooms=[made.Room(tenant=tenant)],
    )


async def build_each(made: Letting, *schemas: str | None) -> None:
    """A house in each of them."""
    for schema in schemas:
        await build(made, schema)


def rows(postgres: PostgresServer, url: str, schema: str, table: str = "houses") -> list[str]:
    """What the server has in that schema, without any help of ours."""
    name = '"' + schema.replace('"', '""') + '"'
    column = "name" if table in ("houses", "towns") else "tenant"
    found = postgres.fetch(
        f"SELECT {column} AS said FROM {name}.{table} ORDER BY 1", database=url.rpartition("/")[2]
    )
    return [row["said"] for row in found]
