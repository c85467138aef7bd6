"""An object of another schema or database is never compared with, referred to, or written.

Its key is the key of somebody else's row there.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Table, case, not_, or_, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    mapped_column,
    relationship,
    with_parent,
)

from asgi_dbconn import ConfigurationError, Queryable, Registry


@dataclass(frozen=True)
class Shop:
    models: Registry
    User: Any
    Post: Any
    ours: dict[str, Any]
    theirs: dict[str, Any]


def make_shop(models: Registry, ours: dict[str, Any], theirs: dict[str, Any]) -> Shop:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    likes = Table(
        "likes",
        Base.metadata,
        Column("user_id", ForeignKey("users.id"), primary_key=True),
        Column("post_id", ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    )

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        posts: Mapped[list[Post]] = relationship(back_populates="user")

    class Post(Base):
        __tablename__ = "posts"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
        user: Mapped[User] = relationship(back_populates="posts")
        likers: Mapped[list[User]] = relationship(secondary=likes)

    return Shop(models, User, Post, ours, theirs)


@asynccontextmanager
async def shops(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """Two tenants with a user and a post of his, in two schemas or two databases."""
    if kind == "schemas":
        models = Registry(request.getfixturevalue("postgres_url"))
        made = make_shop(models, {"schema": "ours"}, {"schema": "theirs"})
    else:
        folder: Path = request.getfixturevalue("tmp_path")
        models = Registry(
            f"sqlite:///{folder / 'ours'}", extra={"theirs": f"sqlite:///{folder / 'theirs'}"}
        )
        made = make_shop(models, {"database": None}, {"database": "theirs"})
    async with models:
        for tenant in (made.ours, made.theirs):
            if kind == "schemas":
                await models.create_all(schema=tenant["schema"])
            else:
                async with models.connection(tenant["database"]) as connection:
                    await connection.run_sync(made.User.metadata.create_all)
            name = "ours" if tenant is made.ours else "theirs"
            user = await made.User.query.using(**tenant).create(name=name)
            await made.Post.query.using(**tenant).create(
                title=f"of {name}", user_id=user.id, likers=[user]
            )
        yield made


Verb = Callable[[Shop, Any, Any, Any], Awaitable[Any]]

# What is asked of the other tenant's posts with a user, or a post, of ours.
ASKED: dict[str, Verb] = {
    "filter by a lookup": lambda s, posts, user, post: posts.filter(user=user),
    "filter by a list": lambda s, posts, user, post: posts.filter(user__in=[user]),
    "exclude": lambda s, posts, user, post: posts.exclude(user=user),
    "an expression": lambda s, posts, user, post: posts.filter(s.Post.user == user),
    "its negation": lambda s, posts, user, post: posts.filter(not_(s.Post.user == user)),
    "unequal": lambda s, posts, user, post: posts.filter(s.Post.user != user),
    "inside of another": lambda s, posts, user, post: posts.filter(
        or_(s.Post.id == 0, s.Post.user == user)
    ),
    "in a subquery": lambda s, posts, user, post: posts.filter(
        s.Post.user.has(s.User.posts.contains(post))
    ),
    "contains": lambda s, posts, user, post: posts.filter(s.Post.likers.contains(user)),
    "a lookup of many to many": lambda s, posts, user, post: posts.filter(likers=user),
    "through a relation": lambda s, posts, user, post: posts.filter(user__posts=post),
    "of an alias": lambda s, posts, user, post: posts.filter(aliased(s.Post).user == user),
    "with_parent": lambda s, posts, user, post: posts.filter(with_parent(user, s.User.posts)),
    "count": lambda s, posts, user, post: posts.filter(user=user).count(),
    "exists": lambda s, posts, user, post: posts.filter(user=user).exists(),
    "first": lambda s, posts, user, post: posts.filter(user=user).first(),
    "last": lambda s, posts, user, post: posts.filter(user=user).last(),
    "get": lambda s, posts, user, post: posts.get(user=user),
    "get_or_none": lambda s, posts, user, post: posts.get_or_none(user=user),
    "values": lambda s, posts, user, post: posts.filter(user=user).values("title"),
    "values of a comparison": lambda s, posts, user, post: posts.values(
        (s.Post.user == user).label("mine")
    ),
    "order": lambda s, posts, user, post: posts.order_by(
        case((s.Post.user == user, 0), else_=1)
    ).first(),
    "stream": lambda s, posts, user, post: read(posts.filter(user=user).stream()),
    "update": lambda s, posts, user, post: posts.filter(user=user).update(title="mine"),
    "update to a comparison": lambda s, posts, user, post: posts.update(
        title=case((s.Post.user == user, "mine"), else_="not mine")
    ),
    "delete": lambda s, posts, user, post: posts.filter(user=user).delete(),
    "create": lambda s, posts, user, post: posts.create(title="x", user=user),
    "create with many": lambda s, posts, user, post: posts.create(
        title="x", user_id=1, likers=[user]
    ),
    "get_or_create": lambda s, posts, user, post: posts.get_or_create(title="of theirs", user=user),
    "update_or_create": lambda s, posts, user, post: posts.update_or_create(
        {"title": "mine"}, user=user
    ),
    "update_or_create with defaults": lambda s, posts, user, post: posts.update_or_create(
        {"user": user}, title="of theirs"
    ),
    "bulk_create of dicts": lambda s, posts, user, post: posts.bulk_create(
        [{"title": "x", "user": user}]
    ),
    "bulk_create of objects": lambda s, posts, user, post: posts.bulk_create(
        [s.Post(title="x", user=user)], returning=True
    ),
    "bulk_update": lambda s, posts, user, post: posts.bulk_update([post], ["title"]),
}


async def read(stream: Any) -> list[Any]:
    async with stream as rows:
        return [row async for row in rows]


async def stored_by(shop: Shop, tenant: dict[str, Any]) -> list[Any]:
    found: list[Any] = await shop.Post.query.using(**tenant).values_list("id", "title", "user_id")
    return found


KINDS = ["databases", pytest.param("schemas", marks=pytest.mark.postgres)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
async def test_no_verb_takes_an_object_of_another_tenant(
    kind: str, asked: Verb, request: pytest.FixtureRequest
) -> None:
    async with shops(kind, request) as shop:
        user = await shop.User.query.using(**shop.ours).get()
        post = await shop.Post.query.using(**shop.ours).get()
        post.title = "changed"

        with pytest.raises(ConfigurationError, match="so its key is that of another row"):
            await asked(shop, shop.Post.query.using(**shop.theirs), user, post)

        assert await stored_by(shop, shop.theirs) == [(1, "of theirs", 1)]
        assert await stored_by(shop, shop.ours) == [(1, "of ours", 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(asked, id=name)
        for name, asked in ASKED.items()
        if "create" not in name and name not in ("unequal", "of an alias")
    ],
)
async def test_among_its_own_it_is_taken(
    kind: str, asked: Verb, request: pytest.FixtureRequest
) -> None:
    async with shops(kind, request) as shop:
        user = await shop.User.query.using(**shop.theirs).get()
        post = await shop.Post.query.using(**shop.theirs).get()
        # Also after a journey: the origin goes along.
        user, post = copy.deepcopy((user, post))
        post.title = "of theirs"
        await asked(shop, shop.Post.query.using(**shop.theirs), user, post)


@pytest.mark.postgres
async def test_an_object_in_a_session_belongs_to_the_sessions_schema(postgres_url: str) -> None:
    models = Registry(postgres_url)
    shop = make_shop(models, {"schema": "ours"}, {"schema": "theirs"})
    async with models:
        for schema in ("ours", "theirs"):
            await models.create_all(schema=schema)
            await shop.User.query.using(schema=schema).create(name=schema)
        posts = shop.Post.query
        with models.with_schema("ours"):
            async with models.session() as session:
                user = await session.get(shop.User, 1)
                assert await posts.filter(user=user).count() == 0
                with pytest.raises(ConfigurationError, match="schema 'theirs'"):
                    await posts.using(schema="theirs").filter(user=user)


@pytest.mark.postgres
async def test_a_query_is_checked_where_it_runs_not_where_it_is_built(postgres_url: str) -> None:
    models = Registry(postgres_url)
    shop = make_shop(models, {"schema": "ours"}, {"schema": "theirs"})
    async with models:
        for schema in ("ours", "theirs"):
            await models.create_all(schema=schema)
        user = await shop.User.query.using(schema="ours").create(name="ours")
        of_user = shop.Post.query.filter(user=user)
        with models.with_schema("ours"):
            assert await of_user == []
        for elsewhere in (of_user, of_user.using(schema="theirs")):
            with pytest.raises(ConfigurationError):
                await elsewhere


async def test_models_of_two_databases_may_be_compared(tmp_path: Path) -> None:
    """Each in its own database: the key refers to the row there, as it is meant."""
    models = Registry(
        f"sqlite:///{tmp_path / 'users'}", extra={"audit": f"sqlite:///{tmp_path / 'audit'}"}
    )

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    class AuditBase(Queryable, DeclarativeBase, registry=models, database="audit"):
        pass

    class Entry(AuditBase):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int]
        user: Mapped[Any] = relationship(
            lambda: User, primaryjoin=lambda: Entry.user_id == User.id, foreign_keys="Entry.user_id"
        )

    async with models:
        await models.create_all()
        user = await User.query.create()
        await Entry.query.create(user_id=user.id)
        assert await Entry.query.filter(Entry.user == user).count() == 1


def test_text_has_no_objects() -> None:
    shop = make_shop(Registry("sqlite://"), {}, {})
    assert shop.Post.query.filter(text("1 = 1"), lambda: shop.Post.id > 1)._query.references == ()


@pytest.mark.parametrize("name", ["user", "likers"])
async def test_a_query_needs_the_object_no_more(sqlite_url: str, name: str) -> None:
    """The object may be collected before the query is awaited."""
    shop = make_shop(Registry(sqlite_url), {}, {})
    async with shop.models:
        await shop.models.create_all()
        user = await shop.User.query.create(name="ada")
        await shop.Post.query.create(title="of ada", user_id=user.id, likers=[user])
        posts = shop.Post.query.filter(**{name: user})
        del user
        gc.collect()
        assert await posts.count() == 1
        both = shop.Post.query.filter(likers__in=await shop.User.query)
        gc.collect()
        assert await both.count() == 1
