"""How type checkers see the package; read by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, assert_type

from litestar import Litestar
from pydantic import SecretStr
from quart import Quart
from sqlalchemy import ForeignKey, MetaData, Select, or_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
    selectinload,
)
from starlette.applications import Starlette
from starlette.middleware import Middleware

from asgi_dbconn import (
    Database,
    DatabaseURL,
    Instance,
    LifespanMiddleware,
    Queryable,
    QuerySet,
    Registry,
    monkay,
)
from asgi_dbconn.databases.transactions import Transaction
from asgi_dbconn.pools.statistics import DrainReport

T = TypeVar("T")

models = Registry(
    database="sqlite:///app.db",
    extra={"audit": "postgresql://db/audit", "own": Database("sqlite://", name="own")},
    pool_size=5,
    password=SecretStr("hush"),
)


class Base(Queryable, DeclarativeBase, registry=models):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    age: Mapped[int | None]
    posts: Mapped[list[Post]] = relationship(back_populates="user")


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    user: Mapped[User] = relationship(back_populates="posts")


class Entry(Base, database="audit"):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)


class DataBase(Queryable, MappedAsDataclass, DeclarativeBase, registry=models):
    pass


class Point(DataBase, kw_only=True):
    __tablename__ = "points"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    x: Mapped[int] = mapped_column(default=0)


class Plain(DeclarativeBase):
    pass


class Alone(Plain):
    __tablename__ = "alone"
    id: Mapped[int] = mapped_column(primary_key=True)


def building() -> None:
    assert_type(User.query, QuerySet[User])
    assert_type(User.query.all(), QuerySet[User])
    assert_type(User.query.filter(User.id > 3, name__icontains="x"), QuerySet[User])
    assert_type(User.query.filter(or_(User.id == 1, User.age.is_(None))), QuerySet[User])
    assert_type(User.query.exclude(User.name == "x", age=3), QuerySet[User])
    assert_type(User.query.order_by("-name", User.id.desc().nulls_last()), QuerySet[User])
    assert_type(User.query.limit(3).offset(6).distinct(), QuerySet[User])
    assert_type(User.query.options(selectinload(User.posts)), QuerySet[User])
    assert_type(Post.query.select_related("user", Post.user), QuerySet[Post])
    assert_type(User.query.prefetch_related("posts__user", User.posts), QuerySet[User])
    assert_type(User.query.only("name", User.age), QuerySet[User])
    assert_type(User.query.with_for_update(skip_locked=True), QuerySet[User])
    assert_type(User.query.using(database="audit"), QuerySet[User])
    assert_type(User.query.using(database=None, schema="tenant"), QuerySet[User])
    assert_type(User.query.using(database=models.database, schema=None), QuerySet[User])
    assert_type(User.query.statement, Select[User])


async def reading() -> None:
    assert_type(await User.query, list[User])
    assert_type(await User.query.all(), list[User])
    assert_type(await User.query.get(5), User)
    assert_type(await User.query.get(name="x"), User)
    assert_type(await User.query.get_or_none(5), User | None)
    assert_type(await User.query.first(), User | None)
    assert_type(await User.query.last(), User | None)
    assert_type(await User.query.count(), int)
    assert_type(await User.query.exists(), bool)
    assert_type(await User.query.values("name", User.age), list[dict[str, Any]])
    assert_type(await User.query.values_list("name", User.age), list[tuple[Any, ...]])
    assert_type(await User.query.values_list(User.name, flat=True), list[str])
    assert_type(await User.query.values_list(User.age, flat=True), list[int | None])
    assert_type(await User.query.values_list("name", flat=True), list[Any])
    async for user in User.query.order_by("name"):
        assert_type(user, User)
    async with User.query.stream(500) as users:
        async for user in users:
            assert_type(user, User)
    assert_type([user.name async for user in User.query], list[str])
    # Two kinds of results at once, which type checkers tell apart only if nothing else is Any.
    gathered = await asyncio.gather(User.query.count(), User.query.first())
    assert_type(gathered, tuple[int, User | None])


async def writing() -> None:
    user = await User.query.create(name="x")
    assert_type(user, User)
    assert_type(await User.query.get_or_create({"age": 3}, name="x"), tuple[User, bool])
    assert_type(await User.query.update_or_create({"age": 3}, name="x"), tuple[User, bool])
    assert_type(await User.query.bulk_create([user, {"name": "y"}]), int)
    assert_type(await User.query.bulk_create([user], returning=True), list[User])
    assert_type(await User.query.bulk_update([user], ["name"]), int)
    assert_type(await User.query.filter(User.id == 1).update(age=User.age + 1), int)
    assert_type(await User.query.delete(), int)
    await user.save()
    await user.refresh("posts")
    await user.delete()
    await asyncio.create_task(User.query.create(name="x"))
    assert_type(user.posts, list[Post])


async def models_of_other_makes() -> None:
    assert_type((await Entry.query.get(1)).id, int)
    assert_type((await Point.query.get(1)).x, int)
    assert_type(Point(x=3).x, int)
    assert_type(models.query(Alone), QuerySet[Alone])
    assert_type(await models.query(Alone), list[Alone])
    assert_type(await models.query(Alone).first(), Alone | None)
    assert_type(await models.query(Alone).values_list(Alone.id, flat=True), list[int])


def of_any_model(query: QuerySet[T], rows: int) -> QuerySet[T]:
    return query.filter(pk__gt=5).limit(rows)


def mistakes() -> None:
    # Each comment is a mistake that both type checkers find; they complain of unused ones.
    for _ in User.query:  # type: ignore[attr-defined] # pyright: ignore[reportGeneralTypeIssues]
        pass
    User.query[0]  # type: ignore[index] # pyright: ignore[reportIndexIssue]
    len(User.query)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    User.query.limit("2")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    User(name="x").query.all()


async def registries() -> None:
    assert_type(models.database, Database)
    assert_type(models.databases, Mapping[str | None, Database])
    assert_type(models.extra, Mapping[str, Database])
    assert_type(models.metadata, MetaData)
    assert_type(models.metadatas, Mapping[str | None, MetaData])
    assert_type(await models.disconnect(), DrainReport | None)
    async with models as entered:
        assert_type(entered, Registry)
    async with models.connection() as connection:
        assert_type(connection, AsyncConnection)
    async with models.session(database="audit") as session:
        assert_type(session, AsyncSession)
    async with models.transaction(isolation_level="SERIALIZABLE", readonly=True) as transaction:
        assert_type(transaction, Transaction)
        assert_type(transaction.connection, AsyncConnection)
        await transaction.rollback()
    await models.create_all()
    await models.drop_all(database="audit")


async def databases() -> None:
    url = DatabaseURL("postgresql://app:x@db/shop")
    database = Database(url.replace(port=6000), pool_size=3, password=lambda: "hush")
    assert_type(url.reveal(), str)
    assert_type(database.engine, AsyncEngine)
    assert_type(database.url, DatabaseURL)
    async with database as entered:
        assert_type(entered, Database)


def applications() -> None:
    inner = Starlette()
    assert_type(models.asgi(inner), LifespanMiddleware)
    assert_type(models.asgi(handle_lifespan=True)(inner), LifespanMiddleware)
    decorator: Callable[[Any], LifespanMiddleware] = models.asgi(handle_lifespan=True)
    decorator(inner)
    LifespanMiddleware(inner, models)
    LifespanMiddleware(inner, lambda: models)
    inner.add_middleware(LifespanMiddleware, registry=models)
    Starlette(middleware=[Middleware(LifespanMiddleware, models)])
    models.asgi(models.asgi(inner))
    models.asgi(Litestar([]))
    quart = Quart("example")
    models.asgi(quart, include=[inner])
    models.asgi(quart.asgi_app, without_lifespan="connect")


def tools() -> None:
    monkay.evaluate_settings()
    monkay.evaluate_settings(ignore_import_errors=False)
    monkay.set_instance(Instance(registry=models, app=None))
    instance = monkay.instance
    if instance is not None:
        assert_type(instance.registry, Registry)
