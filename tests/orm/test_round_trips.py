"""What a verb costs on the network, counted at a proxy, on a connection that is warm."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from asgi_dbconn import Queryable, Registry
from tests.models import Cast, make_cast
from tests.support.proxy import Proxy

pytestmark = pytest.mark.postgres

numbers = itertools.count(1)
Verb = Callable[[Cast, Any], Awaitable[Any]]


def changed(instance: Any) -> Any:
    instance.age = next(numbers)
    return instance


# Each gets an object of its own, that was loaded before.
ONE_STATEMENT: dict[str, Verb] = {
    "all": lambda cast, _: cast.User.query.all(),
    "filter": lambda cast, _: cast.User.query.filter(name__icontains="a").order_by("name").limit(5),
    "relation": lambda cast, _: cast.User.query.filter(posts__title="x"),
    "select_related": lambda cast, _: cast.Post.query.select_related("user").get(1),
    "only": lambda cast, _: cast.User.query.only("name"),
    "get": lambda cast, _: cast.User.query.get(1),
    "get_or_none": lambda cast, _: cast.User.query.get_or_none(99999),
    "first": lambda cast, _: cast.User.query.first(),
    "last": lambda cast, _: cast.User.query.last(),
    "count": lambda cast, _: cast.User.query.count(),
    "exists": lambda cast, _: cast.User.query.exists(),
    "values": lambda cast, _: cast.User.query.values("name"),
    "values_list": lambda cast, _: cast.User.query.values_list("name", flat=True),
    "create": lambda cast, _: cast.Post.query.create(user_id=1),
    "create for an object": lambda cast, user: cast.Post.query.create(user=user),
    "get_or_create that gets": lambda cast, _: cast.User.query.get_or_create(name="ada"),
    "update": lambda cast, _: cast.User.query.filter(name="ada").update(age=3),
    "update of a slice": lambda cast, _: cast.User.query.order_by("id").limit(1).update(age=3),
    "delete": lambda cast, _: cast.User.query.filter(name="zoe").delete(),
    "save, new": lambda cast, _: cast.Post(user_id=1).save(),
    "save, changed": lambda cast, user: changed(user).save(),
    "refresh": lambda cast, user: user.refresh(),
    "refresh a column": lambda cast, user: user.refresh("name"),
}
COLD = {
    name: ONE_STATEMENT[name]
    for name in ("all", "filter", "get", "count", "values", "create", "update", "save, changed")
}
NOTHING: dict[str, Verb] = {
    "save, unchanged": lambda cast, user: user.save(),
    "bulk_create nothing": lambda cast, _: cast.User.query.bulk_create([]),
    "bulk_update nothing": lambda cast, _: cast.User.query.bulk_update([], ["age"]),
}


def many(count: int = 3000) -> list[dict[str, Any]]:
    return [{"name": f"{next(numbers)} of many"} for _ in range(count)]


BEGIN_COMMIT = 2
SAVEPOINT = 2
# How many statements, and what comes on top of them.
SEVERAL: dict[str, tuple[Verb, int]] = {
    "prefetch_related": (
        lambda cast, user: cast.User.query.filter(name="ada").prefetch_related("posts"),
        2 + BEGIN_COMMIT,
    ),
    "refresh a relation": (lambda cast, user: user.refresh("posts"), 2 + BEGIN_COMMIT),
    "create with another": (
        lambda cast, _: cast.User.query.create(name=f"{next(numbers)}", posts=[cast.Post()]),
        2 + BEGIN_COMMIT,
    ),
    "get_or_create that creates": (
        lambda cast, _: cast.User.query.get_or_create(name=f"{next(numbers)}"),
        2,
    ),
    "update_or_create that updates": (
        lambda cast, _: cast.User.query.update_or_create({"age": next(numbers)}, name="ada"),
        2 + BEGIN_COMMIT,
    ),
    "update_or_create that creates": (
        lambda cast, _: cast.User.query.update_or_create(name=f"{next(numbers)}"),
        2 + SAVEPOINT + BEGIN_COMMIT,
    ),
    "bulk_create": (lambda cast, _: cast.User.query.bulk_create(many(100)), 1 + BEGIN_COMMIT),
    "bulk_create, returning": (
        lambda cast, _: cast.User.query.bulk_create(many(), returning=True),
        3 + BEGIN_COMMIT,
    ),
    "bulk_create, ignoring": (
        lambda cast, _: cast.User.query.bulk_create(many(), ignore_conflicts=True),
        3 + BEGIN_COMMIT,
    ),
    "bulk_update": (
        lambda cast, user: cast.User.query.bulk_update([changed(user)], ["age"]),
        2 + BEGIN_COMMIT,
    ),
}


@asynccontextmanager
async def warm(url: str, verb: Verb) -> AsyncIterator[tuple[Cast, Any]]:
    """A cast whose one connection has prepared what the verb needs."""
    cast = make_cast(Registry(url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="ada")
        bob, cyd = [
            await cast.User.query.create(name=name, posts=[cast.Post(title="x")])
            for name in ("bob", "cyd")
        ]
        await verb(cast, await cast.User.query.get(bob.id))
        yield cast, await cast.User.query.get(cyd.id)


async def round_trips(proxy: Proxy, url: str, verb: Verb) -> int:
    async with warm(proxy.url_for(url), verb) as (cast, user):
        with proxy.counting() as counted:
            await verb(cast, user)
    return counted.round_trips


@pytest.mark.parametrize("verb", ONE_STATEMENT)
async def test_a_one_statement_verb_is_one_round_trip(
    proxy: Proxy, postgres_url: str, verb: str
) -> None:
    assert await round_trips(proxy, postgres_url, ONE_STATEMENT[verb]) == 1


@pytest.mark.parametrize("verb", COLD)
async def test_a_statement_is_prepared_once_for_each_connection(
    proxy: Proxy, postgres_url: str, verb: str
) -> None:
    async with warm(proxy.url_for(postgres_url), COLD[verb]) as (cast, user):
        await cast.models.refresh()
        await cast.models.ping()  # connected anew, and nothing prepared
        counts = []
        for _ in range(2):
            with proxy.counting() as counted:
                await COLD[verb](cast, user)
            counts.append(counted.round_trips)

    assert counts == [2, 1]


@pytest.mark.parametrize("verb", NOTHING)
async def test_what_has_nothing_to_send_sends_nothing(
    proxy: Proxy, postgres_url: str, verb: str
) -> None:
    assert await round_trips(proxy, postgres_url, NOTHING[verb]) == 0


@pytest.mark.parametrize("verb", SEVERAL)
async def test_what_takes_several_statements_is_one_transaction(
    proxy: Proxy, postgres_url: str, verb: str
) -> None:
    run, expected = SEVERAL[verb]
    assert await round_trips(proxy, postgres_url, run) == expected


async def test_what_hangs_on_an_object_and_is_unchanged_costs_nothing(
    proxy: Proxy, postgres_url: str
) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url), pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="ada", posts=[cast.Post(), cast.Post()])
        user = await cast.User.query.prefetch_related("posts").get(1)
        post = await cast.Post.query.select_related("user").get(1)
        await changed(user).save()
        post.title = "one"
        await post.save()
        with proxy.counting() as counted:
            await changed(user).save()
            post.title = "two"
            await post.save()
            await user.save()

    assert counted.round_trips == 2


async def test_an_object_is_deleted_at_once_if_nothing_can_hang_on_it(
    proxy: Proxy, postgres_url: str
) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url), pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        counts: list[tuple[int, int]] = []
        for _ in range(2):  # the first time prepares the statements
            user = await cast.User.query.create(name="ada")
            post = await cast.Post.query.create(user_id=user.id)
            with proxy.counting() as post_deleted:
                await post.delete()
            with proxy.counting() as user_deleted:
                await user.delete()
            counts.append((post_deleted.round_trips, user_deleted.round_trips))

    # The user: locked, looked for posts of it, deleted.
    assert counts[1] == (1, 3 + BEGIN_COMMIT)


async def test_what_is_left_out_is_not_asked_for(proxy: Proxy, postgres_url: str) -> None:
    models = Registry(proxy.url_for(postgres_url), pool_size=1)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Node(Base):
        __tablename__ = "nodes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str | None]
        made: Mapped[int] = mapped_column(server_default="5")
        size: Mapped[int] = mapped_column(default=func.length("four"))
        seen: Mapped[int | None] = mapped_column(onupdate=lambda: 1)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
        parent: Mapped[Node | None] = relationship(remote_side="Node.id")

    async with models:
        await models.create_all()
        await Node.query.create()
        with proxy.counting() as created:
            node = await Node.query.create()
        node.text = "changed"
        await node.save()
        node.text = "again"
        with proxy.counting() as saved:
            await node.save()

    assert (node.text, node.made, node.size, node.seen, node.parent_id) == ("again", 5, 4, 1, None)
    assert (created.round_trips, saved.round_trips) == (1, 1)


async def test_a_transaction_adds_its_begin_and_its_commit(proxy: Proxy, postgres_url: str) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url), pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        user = await cast.User.query.create(name="ada")
        counts: list[int] = []
        for _ in range(2):  # the first time prepares the statements
            with proxy.counting() as counted:
                async with cast.models.transaction():
                    await cast.User.query.count()
                    await cast.Post.query.create(user=user)
                    await changed(user).save()
                    await user.refresh()
            counts.append(counted.round_trips)

    assert counts[1] == 4 + BEGIN_COMMIT


async def test_building_a_query_sends_nothing(proxy: Proxy, postgres_url: str) -> None:
    cast = make_cast(Registry(proxy.url_for(postgres_url)))
    async with cast.models:
        with proxy.counting() as counted:
            query = cast.User.query.filter(name="ada").order_by("-id").limit(3)
            str(query.statement)
            cast.User.query.stream()

    assert counted.round_trips == 0
