"""stream(): a few rows at a time, on a connection that comes back however the block is left."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from contextvars import Context
from typing import Any

import pytest
from sqlalchemy import ForeignKey, inspect, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column

from asgi_dbconn import (
    ConfigurationError,
    Queryable,
    QuerySet,
    Registry,
    TransactionAborted,
    TransactionClosed,
)
from tests.models import Cast, make_cast
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until_async


@asynccontextmanager
async def crowd(url: str, size: int = 100, **options: Any) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url, **options))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.bulk_create(
            [{"id": number + 1, "name": f"{number}", "age": number} for number in range(size)]
        )
        yield cast


def idle(cast: Cast) -> bool:
    return cast.models.database.stats().in_use == 0


async def test_every_row_comes_once_and_in_order(database_url: str) -> None:
    async with crowd(database_url) as cast:
        for rows in (1, 7, 100, 1000):
            async with cast.User.query.order_by("-id").stream(rows) as users:
                found = [user async for user in users]
            assert [user.age for user in found] == list(range(99, -1, -1))
            assert all(inspect(user).detached for user in found)
        async with cast.User.query.filter(age=-1).stream() as users:
            assert [user async for user in users] == []
        assert idle(cast)


async def test_no_more_objects_are_alive_than_asked_for(database_url: str) -> None:
    async with crowd(database_url, 1000) as cast:
        alive: weakref.WeakSet[Any] = weakref.WeakSet()
        most = 0
        async with cast.User.query.stream(50) as users:
            async for user in users:
                alive.add(user)
                most = max(most, len(alive))
        del user
        gc.collect()
        assert not alive
        assert most <= 2 * 50  # a batch, and the one that comes after it


@pytest.mark.postgres
async def test_the_server_sends_a_few_rows_at_a_time(proxy: Proxy, postgres_url: str) -> None:
    async with crowd(proxy.url_for(postgres_url), 1000, pool_size=1) as cast:
        counts: list[tuple[int, ...]] = []
        for _ in range(2):  # the first time prepares the statement
            async with cast.User.query.order_by("id").stream(100) as users:
                iterator = aiter(users)
                with proxy.counting() as first:
                    await anext(iterator)
                with proxy.counting() as batch:
                    for _ in range(99):
                        await anext(iterator)
                with proxy.counting() as second:
                    await anext(iterator)
            counts.append((first.round_trips, batch.round_trips, second.round_trips))
        # SQLAlchemy's cursor of asyncpg fetches 50 rows ahead, and then what is lacking.
        assert counts[1] in [(first, 0, second) for first in (1, 2) for second in (1, 2)]


async def test_leaving_early_gives_the_connection_back(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        async with cast.User.query.stream(10) as users:
            async for _ in users:
                break
        assert idle(cast)
        with pytest.raises(KeyError):
            async with cast.User.query.stream(10) as users:
                async for _ in users:
                    raise KeyError
        assert idle(cast)
        async with cast.User.query.stream(10):
            pass  # not read at all
        assert idle(cast)
        assert await cast.User.query.count() == 100


@pytest.mark.postgres
async def test_a_cancelled_fetch_gives_the_connection_back(proxy: Proxy, postgres_url: str) -> None:
    async with crowd(proxy.url_for(postgres_url), pool_size=1) as cast:
        slow = cast.User.query.filter(text("pg_sleep(id * 0 + 10) IS NOT NULL"))

        async def read(query: QuerySet[Any]) -> None:
            async with query.stream(10) as users:
                async for _ in users:
                    pass

        sent = proxy.bytes_from_clients
        reading = asyncio.create_task(read(slow))
        await wait_until_async(lambda: proxy.bytes_from_clients > sent, 5.0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await wait_until_async(lambda: idle(cast), 5.0)
        assert await cast.User.query.count() == 100


async def test_a_cancelled_reader_gives_the_connection_back(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        inside = asyncio.Event()

        async def read() -> None:
            async with cast.User.query.stream(10) as users:
                async for _ in users:
                    inside.set()
                    await asyncio.Event().wait()

        reading = asyncio.create_task(read())
        await inside.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert idle(cast)
        assert await cast.User.query.count() == 100


async def test_what_is_written_inside_is_committed_at_its_end(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        async with cast.User.query.order_by("id").stream(10) as users:
            async for user in users:
                user.age += 1000
                await user.save()
        assert await cast.User.query.filter(cast.User.age >= 1000).count() == 100

        with pytest.raises(KeyError):
            async with cast.User.query.stream(10) as users:
                async for user in users:
                    await user.delete()
                    raise KeyError
        assert await cast.User.query.count() == 100


@pytest.mark.parametrize("scope", ["connection", "session", "transaction"])
async def test_a_stream_is_a_part_of_a_scope(database_url: str, scope: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        async with getattr(cast.models, scope)():
            await cast.User.query.create(id=1000, name="new")
            async with cast.User.query.order_by("-id").stream(10) as users:
                async for user in users:
                    assert user.name == "new"
                    user.name = "seen"
                    await user.save()
                    break
            assert await cast.User.query.filter(name="seen").exists()
        assert await cast.User.query.filter(name="seen").exists()


async def test_two_streams_on_one_connection(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        async with (
            cast.models.transaction(),
            cast.User.query.order_by("id").stream(7) as up,
            cast.User.query.order_by("-id").stream(3) as down,
        ):
            falling = aiter(down)
            seen = [(user.id, (await anext(falling)).id) async for user in up]
        assert seen == [(number, 101 - number) for number in range(1, 101)]


async def test_siblings_take_turns_between_two_fetches(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        wanted, done = asyncio.Event(), asyncio.Event()

        async def read() -> int:
            count = 0
            async with cast.User.query.stream(10) as users:
                async for _ in users:
                    count += 1
                    wanted.set()
                    await done.wait()  # the other needs the connection meanwhile
            return count

        async def look() -> int:
            await wanted.wait()
            found: int = await cast.User.query.count()
            done.set()
            return found

        async with cast.models.transaction():
            assert {*await asyncio.gather(read(), look(), read())} == {100}


async def test_the_error_of_the_block_is_not_hidden(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        with pytest.raises(IntegrityError):
            async with cast.models.transaction():
                async with cast.User.query.stream(10) as users:
                    async for _ in users:
                        await cast.User.query.create(name="1")
        with pytest.raises(IntegrityError):
            async with cast.User.query.stream(10) as users:
                await cast.User.query.create(name="1")
        with pytest.raises(TransactionAborted):
            async with cast.User.query.stream(10) as users:
                with pytest.raises(IntegrityError):
                    await cast.User.query.create(name="1")
        assert await cast.User.query.count() == 100


async def test_a_stream_is_read_in_its_block_and_once(database_url: str) -> None:
    async with crowd(database_url, pool_size=1) as cast:
        stream = cast.User.query.stream()
        with pytest.raises(TransactionClosed, match="async with User"):
            async for _ in stream:
                pass
        async with stream as users:
            iterator = aiter(users)
            await anext(iterator)
        with pytest.raises(TransactionClosed, match="block has ended"):
            [user async for user in users]
        with pytest.raises(TransactionClosed, match="entered before"):
            async with stream:
                pass
        assert idle(cast)
        for rows in (0, -1, "10", True, 1.5):
            with pytest.raises(ConfigurationError, match="1 or more"):
                cast.User.query.stream(rows)


async def test_relations_come_along(database_url: str) -> None:
    async with crowd(database_url, 20) as cast:
        await cast.Post.query.bulk_create(
            [{"title": f"{user}", "user_id": user} for user in range(1, 21) for _ in range(2)]
        )
        async with cast.User.query.order_by("id").prefetch_related("posts").stream(3) as users:
            async for user in users:
                assert [post.title for post in user.posts] == [f"{user.id}"] * 2
        async with cast.Post.query.select_related("user").stream(3) as posts:
            assert [post.user.id == post.user_id async for post in posts] == [True] * 40
        # A row for each post, of which a batch would hold a part: SQLAlchemy refuses that.
        with pytest.raises(InvalidRequestError, match="yield_per"):
            async with cast.User.query.options(joinedload(cast.User.posts)).stream(3) as users:
                [user async for user in users]
        assert idle(cast)


async def test_subclasses_come_whole(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Animal(Base):
        __tablename__ = "animals"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __tablename__ = "dogs"
        id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
        tricks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}

    async with models:
        await models.create_all()
        for number in range(10):
            await Dog.query.create(tricks=number)
            await Animal.query.create()
        async with Animal.query.order_by("id").stream(3) as animals:
            found = [animal async for animal in animals]
        assert [row.tricks for row in found if isinstance(row, Dog)] == list(range(10))
        assert len(found) == 20


async def test_outside_of_the_streams_task_it_is_another_connection(database_url: str) -> None:
    async with crowd(database_url, pool_size=2) as cast:
        async with cast.User.query.stream(10) as users:
            await cast.User.query.create(id=1000, name="inside")
            elsewhere = asyncio.get_running_loop().create_task(
                cast.User.query.filter(name="inside").exists(), context=Context()
            )
            assert not await elsewhere
            assert len([user async for user in users]) >= 100
        assert await cast.User.query.filter(name="inside").exists()


@pytest.mark.postgres
async def test_a_stream_stays_in_its_schema(postgres_url: str) -> None:
    async with crowd(postgres_url, 0) as cast:
        models = cast.models
        for schema in ("a", "b"):
            await models.create_all(schema=schema)
            with models.with_schema(schema):
                for _ in range(5):
                    posts = [cast.Post(title=schema)]
                    await cast.User.query.create(name=f"{schema} {_}", posts=posts)
        with models.with_schema("a"):
            async with cast.User.query.prefetch_related("posts").stream(1) as users:
                async for user in users:
                    with models.with_schema("b"):
                        assert await cast.User.query.count() == 5
                        await user.refresh()
                    assert [post.title for post in user.posts] == ["a"]
                    await user.posts[0].delete()
        for schema, left in (("a", 0), ("b", 5)):
            assert await cast.Post.query.using(schema=schema).count() == left


@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("scope", ["connection", "session", "transaction"])
async def test_a_stream_that_is_left_after_its_scope_takes_no_connection(
    database_url: str, scope: str, is_connected: bool
) -> None:
    async with crowd(database_url) as cast:
        async with getattr(cast.models, scope)():
            rows = names_of(cast)
            await anext(rows)
        acquired = cast.models.database.stats().acquired
        if is_connected:
            await rows.aclose()
        assert cast.models.database.stats().acquired == acquired
        assert idle(cast)
    await rows.aclose()  # as the event loop does with a generator that nobody holds


@pytest.mark.parametrize("scope", ["connection", "session", "transaction", None])
async def test_a_stream_is_read_on_its_own_connection_by_any_task(
    database_url: str, scope: str | None
) -> None:
    async with crowd(database_url, pool_size=2) as cast:
        acquired = cast.models.database.stats().acquired
        async with getattr(cast.models, scope)() if scope else nullcontext():
            async with cast.User.query.order_by("id").stream(1) as users:
                iterator = aiter(users)
                loop = asyncio.get_running_loop()
                for number in range(3):
                    user = await loop.create_task(anext(iterator), context=Context())
                    assert user.name == f"{number}"
        assert cast.models.database.stats().acquired == acquired + 1
        assert idle(cast)


async def test_a_stream_is_not_read_in_another_scope_after_its_own(database_url: str) -> None:
    async with crowd(database_url) as cast:
        async with cast.models.transaction():
            rows = names_of(cast)
            await anext(rows)
        async with cast.models.transaction():
            with pytest.raises(TransactionClosed):
                await anext(rows)
            assert await cast.User.query.count() == 100
        assert idle(cast)


async def names_of(cast: Cast) -> AsyncGenerator[str]:
    async with cast.User.query.order_by("id").stream(1) as users:
        async for user in users:
            yield user.name
