"""Attributes that are set while a `save()` is under way, after their values were read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, inspect
from sqlalchemy.exc import IntegrityError

from tests.orm.shop import ROLLBACKS, Shop, shop
from tests.orm.test_rolled_back_objects import items, orders
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until_async


@contextmanager
def while_executing(cast: Shop, begins: str, change: Callable[[], None]) -> Iterator[None]:
    """``change`` is called when a statement that begins like this has been made, and not sent."""
    engine = cast.models.database.engine.sync_engine
    done: list[str] = []

    def listen(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith(begins) and not done:
            done.append(statement)
            change()

    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    assert done


@pytest.mark.parametrize("scope", [None, "transaction", "session", "connection"])
async def test_of_one_row(database_url: str, scope: str | None) -> None:
    async def set_and_save(item: Any, begins: str) -> None:
        with while_executing(cast, begins, lambda: later(item)):
            await item.save()

    def later(item: Any) -> None:
        item.count, item.note = item.count + 1, f"{item.count}"

    async with shop(database_url) as cast:
        await cast.models.ping()
        item = cast.Item(name="new", count=1)
        if scope is None:
            await set_and_save(item, "INSERT INTO items")
            assert await items(cast) == [("new", 1, "none", None)]
            await set_and_save(item, "UPDATE items")
        else:
            async with getattr(cast.models, scope)():
                await set_and_save(item, "INSERT INTO items")
                assert await items(cast) == [("new", 1, "none", None)]
                await set_and_save(item, "UPDATE items")
        assert await items(cast) == [("new", 2, "1", 99)]
        assert (item.count, item.note) == (3, "2")
        await item.save()
        assert await items(cast) == [("new", 3, "2", 99)]
        assert not inspect(item).modified


# SQLAlchemy warns of a collection that is changed during its flush: it was read already.
@pytest.mark.filterwarnings("ignore:Usage of the ")
async def test_of_objects_that_take_a_session(database_url: str) -> None:
    async with shop(database_url) as cast:
        await cast.models.ping()
        order = cast.Order(name="new", total=1, lines=[cast.Line(text="a")])
        parts = [cast.Line(text="b"), cast.Line(text="c")]

        def later() -> None:
            order.total, order.name = 2, "renamed"
            order.lines.append(parts.pop())

        with while_executing(cast, "INSERT INTO orders", later):
            await order.save()
        assert (await orders(cast))[0][:2] == ("new", 1)
        await order.save()
        assert await orders(cast) == [("renamed", 2, 2, ["a", "c"], [])]
        with while_executing(cast, "UPDATE orders", later):
            order.total = 1
            await order.save()
        await order.save()
        assert await orders(cast) == [("renamed", 2, 4, ["a", "c", "b"], [])]
        await order.save()
        assert (await cast.Order.query.get(order.id)).version == 4


async def test_of_an_object_that_hangs_on_it_and_was_not_changed(database_url: str) -> None:
    async with shop(database_url) as cast:
        order = await cast.Order.query.create(name="old", lines=[cast.Line(text="a")])
        order = await cast.Order.query.prefetch_related("lines").get(order.id)
        (line,) = order.lines

        def later() -> None:
            line.text = "A"

        order.total = 1
        with while_executing(cast, "UPDATE orders", later):
            await order.save()
        assert await orders(cast) == [("old", 1, 2, ["a"], [])]
        await line.save()
        assert await orders(cast) == [("old", 1, 2, ["A"], [])]


async def test_a_foreign_key(database_url: str) -> None:
    async with shop(database_url) as cast:
        one = await cast.Order.query.create(name="one")
        other = await cast.Order.query.create(name="other")
        line = await cast.Line.query.create(text="a", order_id=one.id)
        line = await cast.Line.query.select_related("order").get(line.id)

        def later() -> None:
            line.order_id = other.id

        line.text = "A"
        with while_executing(cast, "UPDATE lines", later):
            await line.save()
        await line.save()
        assert [order[3] for order in await orders(cast)] == [[], ["A"]]


async def test_what_is_refused_meanwhile(database_url: str) -> None:
    async with shop(database_url) as cast:
        await cast.models.ping()
        await cast.Item.query.create(name="taken")
        item = await cast.Item.query.create(name="other", count=1)
        new = cast.Item(name="taken", count=1)
        for target in (item, new):

            def later(target: Any = target) -> None:
                target.count = 7

            target.name = "taken"
            with pytest.raises(IntegrityError), while_executing(cast, "", later):
                await target.save()
            target.name = f"mended {target.id}"
            await target.save()
            assert (await cast.Item.query.get(target.id)).count == 7


@pytest.mark.parametrize("way", ["an error in a transaction", "a savepoint", "an isolation"])
async def test_and_its_transaction_is_rolled_back(database_url: str, way: str) -> None:
    async with shop(database_url) as cast:
        item, order = cast.Item(name="new", count=1), cast.Order(name="new", total=1)

        def later() -> None:
            item.count = order.total = 2

        async with ROLLBACKS[way](cast):
            with while_executing(cast, "INSERT INTO items", later):
                await item.save()
            order.total = 1
            with while_executing(cast, "INSERT INTO orders", later):
                await order.save()
        await item.save()
        await order.save()
        assert await items(cast) == [("new", 2, "none", None)]
        assert await orders(cast) == [("new", 2, 1, [], [])]


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["Item", "Order"])
async def test_by_another_task(postgres: PostgresServer, postgres_url: str, kind: str) -> None:
    async with shop(postgres_url) as cast:
        model = getattr(cast, kind)
        made = await model.query.create(name="old")
        async with cast.models.transaction():
            await model.query.with_for_update().get(made.id)
            made.name = "first"
            saving = asyncio.create_task(save_elsewhere(cast, made))
            await wait_until_async(lambda: is_waiting(postgres, postgres_url), 5)
            made.name = "second"
        await saving
        assert (await model.query.get(made.id)).name == "first"
        await made.save()
        assert (await model.query.get(made.id)).name == "second"


async def save_elsewhere(cast: Shop, instance: Any) -> None:
    # Not in the scope of the task that started it.
    await asyncio.get_running_loop().run_in_executor(None, asyncio.run, instance.save())


def is_waiting(postgres: PostgresServer, url: str) -> bool:
    query = "SELECT wait_event_type FROM pg_stat_activity WHERE datname = $1"
    return any(kind == "Lock" for (kind,) in postgres.fetch(query, url.rpartition("/")[2]))
