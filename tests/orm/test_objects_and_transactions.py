"""Objects at the end of their transaction: unknown commits, repeats, memory, pickles, costs."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import pickle
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import DBConnError, ObjectNotFound, Registry, TransactionAborted
from asgi_dbconn.orm.object_undo import ObjectUndo, note_change
from asgi_dbconn.pools.undo_log import undo_log_of
from tests.orm.counting import calls_of_ours
from tests.orm.shop import ROLLBACKS, make_shop, shop
from tests.orm.test_rolled_back_objects import items, orders
from tests.support.proxy import Proxy


async def in_a_context_of_its_own(work: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await work()

    return await asyncio.get_running_loop().create_task(run(), context=contextvars.Context())


def sync_connection_of(connection: AsyncConnection) -> Connection:
    assert connection.sync_connection is not None
    return connection.sync_connection


# -- commits whose outcome is not known


@pytest.mark.postgres
@pytest.mark.parametrize("arrives", [True, False])
async def test_a_commit_that_is_cut(proxy: Proxy, postgres_url: str, arrives: bool) -> None:
    async with shop(postgres_url, pool_size=2) as direct:
        await direct.Item.query.create(name="old", count=1)
    async with shop(proxy.url_for(postgres_url), pool_size=1) as cast:
        item, order = await cast.Item.query.get(name="old"), cast.Order(name="new")

        def cut(_: Any) -> None:
            proxy.reset_connections()

        with pytest.raises(DBConnError):
            async with cast.models.transaction() as transaction:
                item.count = 2
                await item.save()
                await order.save()
                connection = transaction.connection.sync_connection
                if arrives:  # as far as we know
                    await transaction.connection.execute(text("COMMIT"))
                event.listen(connection, "commit", cut)
        assert (await items(cast))[0][1] == (2 if arrives else 1)

        item.count = 1  # as it was, or not
        await item.save()
        assert (await items(cast))[0][1] == 1
        assert inspect(order).transient
        await order.save()
        assert len(await orders(cast)) == (2 if arrives else 1)


@pytest.mark.postgres
async def test_a_commit_that_is_cancelled(proxy: Proxy, postgres_url: str) -> None:
    async with shop(proxy.url_for(postgres_url), pool_size=1) as cast:
        item = await cast.Item.query.create(name="old", count=1)
        sent = asyncio.Event()

        async def change() -> None:
            async with cast.models.transaction() as transaction:
                item.count = 2
                await item.save()

                def stall(_: Any) -> None:
                    proxy.set_mode("stall")
                    sent.set()

                event.listen(transaction.connection.sync_connection, "commit", stall)

        task = asyncio.create_task(change())
        await sent.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        proxy.set_mode("pass")
        item.count = 1
        await item.save()
        assert (await items(cast))[0][1] == 1


@pytest.mark.parametrize("path", ["without a session", "with a session"])
async def test_a_single_statement_that_is_cut(database_url: str, path: str) -> None:
    async with shop(database_url, pool_size=1) as cast:
        if path == "with a session":
            event.listen(cast.Item, "refresh_flush", lambda *_: None)
        item = await cast.Item.query.create(name="old", count=1)
        engine = cast.models.database.engine.sync_engine

        def cut(*_: Any) -> None:
            event.remove(engine, "after_cursor_execute", cut)
            raise ConnectionResetError  # after it has taken effect

        item.count = 2
        event.listen(engine, "after_cursor_execute", cut)
        with pytest.raises(ConnectionResetError):
            await item.save()
        assert (await items(cast))[0][1] == 2
        item.count = 1
        await item.save()
        assert (await items(cast))[0][1] == 1


async def test_an_object_of_another_database_goes_back_to_it(
    database_url: str, tmp_path: Path
) -> None:
    cast = make_shop(Registry(database_url, extra={"other": f"sqlite:///{tmp_path}/other"}))
    async with cast.models, cast.models.connection("other") as connection:
        await connection.run_sync(cast.Item.metadata.create_all)
    async with cast.models:
        await cast.models.create_all()
        others = cast.Item.query.using(database="other")
        deleted, changed = await others.create(name="deleted"), await others.create(name="changed")
        visited = await others.create(name="visited")
        with pytest.raises(ZeroDivisionError):
            async with cast.models.transaction("other"):
                await deleted.delete()
                changed.count = 1
                await changed.save()
                async with cast.models.session("other") as session:
                    session.add(visited)
                    visited.count = 1
                raise ZeroDivisionError
        for item in (deleted, changed, visited):
            item.count = 2
            await item.save()
        assert await others.values_list("count", flat=True) == [2, 2, 2]
        assert await cast.Item.query.count() == 0


# -- a transaction that is repeated


@pytest.mark.postgres
async def test_the_second_attempt_stores_everything_again(postgres_url: str) -> None:
    async with shop(postgres_url) as cast:
        order, other = (
            await cast.Order.query.create(name="old"),
            await cast.Item.query.create(name="other", count=0),
        )
        invoice = cast.Order(name="invoice", lines=[cast.Line(text="a"), cast.Line(text="b")])
        attempts = 0

        async def somebody() -> None:
            async with cast.models.transaction(isolation_level="SERIALIZABLE"):
                await cast.Order.query.filter(id=order.id).values_list("total")
                await cast.Item.query.filter(id=other.id).update(count=1)

        async def pay() -> None:
            nonlocal attempts
            attempts += 1
            await cast.Item.query.filter(id=other.id).values_list("count")
            order.total = 5
            await order.save()
            await invoice.save()
            if attempts == 1:
                await in_a_context_of_its_own(somebody)

        await cast.models.run_transaction(pay, isolation_level="SERIALIZABLE")
        assert attempts == 2
        assert await orders(cast) == [
            ("old", 5, 2, [], []),
            ("invoice", None, 1, ["a", "b"], []),
        ]


# -- objects of rows that are gone


async def test_another_object_for_a_row_that_never_was(database_url: str) -> None:
    async with shop(database_url) as cast:
        before = await cast.Item.query.create(name="before")
        async with ROLLBACKS["an error in a transaction"](cast):
            made = await cast.Item.query.create(name="made", count=1)
            async with ROLLBACKS["an error in a transaction"](cast):
                twin = await cast.Item.query.get(name="made")
                known = await cast.Item.query.get(name="before")
            assert inspect(twin).detached  # it is there still
            assert (await cast.Item.query.get_or_create(name="made"))[1] is False
        assert inspect(made).transient
        assert inspect(known).detached

        stranger = await cast.Item.query.create(name="stranger", count=100)
        twin.count = 2
        if cast.models.database.url.dialect == "sqlite":
            # The stranger has its key.
            assert inspect(twin).transient
            await twin.save()
            assert (await cast.Item.query.get(name="made")).count == 2
        else:
            with pytest.raises(ObjectNotFound):
                await twin.save()
        assert (await cast.Item.query.get(stranger.id)).count == 100
        known.count = 3
        await known.save()
        assert (await cast.Item.query.get(before.id)).count == 3


async def test_a_create_that_failed_leaves_nothing_behind(database_url: str) -> None:
    async with shop(database_url) as cast:
        await cast.Order.query.create(name="o", lines=[cast.Line(text="a")])
        for query in (cast.Order.query, cast.Order.query.prefetch_related("lines")):
            order = await query.get(name="o")
            with pytest.raises(IntegrityError):
                await cast.Line.query.create(text="a", order=order)
            await cast.Line.query.create(text=f"b{order.version}", order=order)
            order.total = order.version
            await order.save()
        assert await orders(cast) == [("o", 2, 3, ["a", "b1", "b2"], [])]


# -- what becomes of the notes


@pytest.mark.parametrize("path", ["Item", "Order"])
async def test_no_object_is_kept_alive(sqlite_url: str, path: str) -> None:
    async with shop(sqlite_url) as cast:
        gc.collect()
        gc.disable()  # nobody has to look for cycles
        try:
            async with cast.models.transaction() as transaction:
                log = undo_log_of(sync_connection_of(transaction.connection))
                saved, instance = [], None
                for number in range(300):
                    instance = getattr(cast, path)(name=f"{number}")
                    await instance.save()
                    saved.append(weakref.ref(instance))
                    async with cast.models.transaction():
                        instance.name += "!"
                        await instance.save()
                    saved.append(weakref.ref(await getattr(cast, path).query.get(instance.id)))
                assert log is not None
                assert len([reference for reference in saved if reference() is not None]) == 1
                assert sum(level.size for level in log.levels) == 1
                del instance
                assert sum(level.size for level in log.levels) == 0
        finally:
            gc.enable()


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_nothing_is_noted_on_an_object_afterwards(database_url: str, end: str) -> None:
    async with shop(database_url) as cast:
        item, order = cast.Item(name="new"), cast.Order(name="new")
        async with cast.models.transaction(force_rollback=end == "rollback"):
            await item.save()
            async with cast.models.transaction():
                await order.save()
        for instance in (item, order):
            assert not [name for name in vars(inspect(instance)) if "asgi_dbconn" in name]


async def test_copies_made_meanwhile_are_objects_of_their_own(database_url: str) -> None:
    async with shop(database_url) as cast:
        registry = type(cast.Item(name="x"))
        async with ROLLBACKS["an error in a transaction"](cast):
            item = await cast.Item.query.create(name="new")
            copied = copy.deepcopy(item)
            state = inspect(copied)
            assert not [name for name in vars(state) if "asgi_dbconn" in name]
        assert type(copied) is registry
        assert inspect(item).transient


async def test_unknown_values_survive_a_pickle(database_url: str) -> None:
    async with shop(database_url) as cast:
        await cast.Item.query.create(name="old", count=1)
        async with ROLLBACKS["an error in a transaction"](cast):
            await cast.Item.query.update(count=5)
            item = await cast.Item.query.get(name="old")
        state = pickle.loads(pickle.dumps(inspect(item).info))
        assert state == inspect(item).info
        twin = copy.deepcopy(item)
        twin.count = 5
        await twin.save()
        assert (await items(cast))[0][1] == 5


async def test_refreshing_makes_known(database_url: str) -> None:
    async with shop(database_url) as cast:
        await cast.Item.query.create(name="old", count=1)
        async with ROLLBACKS["an error in a transaction"](cast):
            await cast.Item.query.update(count=5)
            item = await cast.Item.query.get(name="old")
        await item.refresh()
        await cast.Item.query.update(count=7)
        item.count = 1  # as it was loaded
        await item.save()
        assert (await items(cast))[0][1] == 7


async def test_an_object_is_not_stored_on_a_connection_that_is_given_up_meanwhile(
    database_url: str,
) -> None:
    async with shop(database_url) as cast:
        item = cast.Item(name="new")

        async def store() -> None:
            async with cast.models.connection() as connection:
                sync = sync_connection_of(connection)

                def give_up(*_: Any) -> None:
                    # As the end of a block does, of another task, when the answer is there.
                    sync.invalidate()

                event.listen(engine, "after_cursor_execute", give_up)
                try:
                    await item.save()
                finally:
                    event.remove(engine, "after_cursor_execute", give_up)

        engine = cast.models.database.engine.sync_engine
        with pytest.raises(TransactionAborted):
            await store()
        assert inspect(item).key is None
        await item.save()
        assert await cast.Item.query.values_list("name", flat=True) == ["new"]


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")
@pytest.mark.parametrize("how", ["dropped", "detached", "detached and committed"])
async def test_a_connection_that_leaves_its_pool(postgres_url: str, how: str) -> None:
    async with shop(postgres_url) as cast:
        item = cast.Item(name="new")
        connection = await cast.models.database.engine.connect()
        await connection.execute(text("INSERT INTO items (name) VALUES ('new')"))
        # As save() does, which works in scopes only.
        log = undo_log_of(sync_connection_of(connection))
        assert log is not None
        note_change(log.level, inspect(item), ObjectUndo(inspect(item), {}))
        inspect(item).key = (cast.Item, (1,), None)
        if how == "dropped":
            del connection
            gc.collect()
        else:
            await connection.run_sync(lambda sync: sync.detach())
            if how == "detached and committed":
                await connection.commit()
            await connection.close()
        assert inspect(item).transient == (how != "detached and committed")


# -- what it costs


@pytest.mark.postgres
async def test_what_it_costs_inside_a_transaction(postgres_url: str) -> None:
    async with shop(postgres_url) as cast:
        async with cast.models.transaction():
            await cast.Item.query.create(name="x")
            at_most = {"values": 135, "get": 165, "save": 175}
            numbers = iter(range(100))
            costs = {
                "values": await calls_of_ours(lambda: cast.Item.query.values_list("id")),
                "get": await calls_of_ours(lambda: cast.Item.query.get(1)),
                "save": await calls_of_ours(lambda: cast.Item(name=f"{next(numbers)}").save()),
            }
        assert {name: cost for name, cost in costs.items() if cost > at_most[name]} == {}
