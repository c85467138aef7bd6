"""Orders with lines and labels, and ways in which what is done with them is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKey, Table, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from asgi_dbconn import DBConnError, Queryable, Registry

__all__ = ["ROLLBACKS", "Shop", "Way", "make_shop", "shop"]


class Undone(Exception):
    pass


@dataclass(frozen=True)
class Shop:
    models: Registry
    Item: Any
    """A row of one table, stored without a Session."""
    Order: Any
    """With a version counter, lines and labels."""
    Line: Any
    Label: Any


def make_shop(models: Registry) -> Shop:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    labelling = Table(
        "labellings",
        Base.metadata,
        Column("order_id", ForeignKey("orders.id"), primary_key=True),
        Column("label_id", ForeignKey("labels.id"), primary_key=True),
    )

    class Item(Base):
        __tablename__ = "items"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        count: Mapped[int | None]
        note: Mapped[str] = mapped_column(server_default="none")
        changed: Mapped[int | None] = mapped_column(onupdate=lambda: 99)

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        total: Mapped[int | None]
        version: Mapped[int] = mapped_column()
        lines: Mapped[list[Line]] = relationship(
            back_populates="order", cascade="all, delete-orphan", order_by="Line.id"
        )
        labels: Mapped[list[Label]] = relationship(secondary=labelling, back_populates="orders")
        __mapper_args__ = {"version_id_col": version}

    class Line(Base):
        __tablename__ = "lines"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(unique=True)
        order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
        order: Mapped[Order] = relationship(back_populates="lines")

    class Label(Base):
        __tablename__ = "labels"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        orders: Mapped[list[Order]] = relationship(secondary=labelling, back_populates="labels")

    # Checked at the commit only.
    Table(
        "promises",
        Base.metadata,
        Column("id", ForeignKey("orders.id", deferrable=True, initially="DEFERRED")),
    )
    return Shop(models, Item, Order, Line, Label)


@asynccontextmanager
async def shop(url: str, **options: Any) -> AsyncIterator[Shop]:
    cast = make_shop(Registry(url, **options))
    async with cast.models:
        await cast.models.create_all()
        yield cast


# -- ways to roll back


@asynccontextmanager
async def _an_error(cast: Shop, scope: str) -> AsyncIterator[None]:
    with suppress(Undone):
        async with getattr(cast.models, scope)():
            yield
            raise Undone


@asynccontextmanager
async def _savepoint(cast: Shop) -> AsyncIterator[None]:
    async with cast.models.transaction():
        await cast.Label.query.create(text="around")
        async with _an_error(cast, "transaction"):
            yield


@asynccontextmanager
async def _released(cast: Shop) -> AsyncIterator[None]:
    async with _an_error(cast, "transaction"), cast.models.transaction():
        yield


@asynccontextmanager
async def _handle(cast: Shop) -> AsyncIterator[None]:
    async with cast.models.transaction() as transaction:
        yield
        await transaction.rollback()


@asynccontextmanager
async def _dry_run(cast: Shop) -> AsyncIterator[None]:
    async with cast.models.transaction(force_rollback=True):
        yield


@asynccontextmanager
async def _by_hand(cast: Shop, scope: str) -> AsyncIterator[None]:
    async with getattr(cast.models, scope)() as opened:
        yield
        await opened.rollback()


@asynccontextmanager
async def _joined_session(cast: Shop) -> AsyncIterator[None]:
    async with _an_error(cast, "transaction"), cast.models.session():
        yield


@asynccontextmanager
async def _failed_flush(cast: Shop) -> AsyncIterator[None]:
    with suppress(IntegrityError):
        async with cast.models.session() as session:
            yield
            session.add_all([cast.Item(name="twice"), cast.Item(name="twice")])
            await session.flush()


@asynccontextmanager
async def _failed_commit(cast: Shop) -> AsyncIterator[None]:
    with suppress(IntegrityError):
        async with cast.models.transaction() as transaction:
            yield
            await transaction.connection.execute(text("INSERT INTO promises VALUES (-1)"))


@asynccontextmanager
async def _given_up(cast: Shop) -> AsyncIterator[None]:
    with suppress(DBConnError, SQLAlchemyError, Undone):
        async with cast.models.transaction() as transaction:
            yield
            await transaction.connection.invalidate()
            raise Undone


@asynccontextmanager
async def _lost(cast: Shop) -> AsyncIterator[None]:
    # SQLite has no server that could go away: there it is closed under us.
    with suppress(DBConnError, SQLAlchemyError):
        async with cast.models.connection() as connection:
            yield
            if connection.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            else:
                await connection.invalidate()
            await cast.Label.query.create(text="in vain")


@asynccontextmanager
async def _isolation(cast: Shop) -> AsyncIterator[None]:
    async with cast.models.rollback():
        yield


@asynccontextmanager
async def _inner_isolation(cast: Shop) -> AsyncIterator[None]:
    async with cast.models.rollback():
        await cast.Label.query.create(text="around")
        async with cast.models.rollback():
            yield
        yield_back = await cast.Label.query.count()
    assert yield_back >= 1


@asynccontextmanager
async def _inside_an_isolation(cast: Shop) -> AsyncIterator[None]:
    async with cast.models.rollback(), cast.models.transaction():
        yield


@asynccontextmanager
async def _second_attempt(cast: Shop) -> AsyncIterator[None]:
    async with _an_error(cast, "transaction"), cast.models.transaction(), cast.models.transaction():
        yield


Way = Callable[[Shop], AbstractAsyncContextManager[None]]

ROLLBACKS: dict[str, Way] = {
    "an error in a transaction": lambda cast: _an_error(cast, "transaction"),
    "an error in a session": lambda cast: _an_error(cast, "session"),
    "an error on a connection": lambda cast: _an_error(cast, "connection"),
    "a savepoint": _savepoint,
    "a released savepoint": _released,
    "two released savepoints": _second_attempt,
    "a joined session": _joined_session,
    "the handle's rollback": _handle,
    "a dry run": _dry_run,
    "a session's rollback by hand": lambda cast: _by_hand(cast, "session"),
    "a connection's rollback by hand": lambda cast: _by_hand(cast, "connection"),
    "a failed flush": _failed_flush,
    "a failed commit": _failed_commit,
    "a connection given up": _given_up,
    "a lost connection": _lost,
    "an isolation": _isolation,
    "an isolation in another": _inner_isolation,
    "a commit in an isolation": _inside_an_isolation,
}
"""Inside each of them objects are stored in a transaction; at its end nothing of that is left."""
