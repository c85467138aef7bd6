"""Objects whose transaction was rolled back: the next `save()` sends what it would have sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.exc import IntegrityError

from asgi_dbconn import ObjectNotFound
from tests.orm.shop import ROLLBACKS, Shop, Way, shop

Scenario = Callable[[Shop, Way], Awaitable[None]]


def in_each_way(scenario: Scenario) -> Callable[[str], Awaitable[None]]:
    """A test that plays ``scenario`` on empty tables for each way to roll back."""

    async def test(database_url: str) -> None:
        async with shop(database_url) as cast:
            for name, way in ROLLBACKS.items():
                try:
                    await scenario(cast, way)
                    await empty(cast)
                except BaseException as error:
                    error.add_note(f"It was rolled back by {name}.")
                    raise

    return test


async def empty(cast: Shop) -> None:
    tables = cast.Order.metadata.sorted_tables
    async with cast.models.transaction() as transaction:
        for table in reversed(tables):
            await transaction.connection.execute(table.delete())


async def orders(cast: Shop) -> list[Any]:
    """All that is stored of orders, read by a query of its own."""
    found: list[Any] = await cast.Order.query.prefetch_related("lines", "labels").order_by("id")
    return [
        (
            order.name,
            order.total,
            order.version,
            [line.text for line in order.lines],
            sorted(label.text for label in order.labels),
        )
        for order in found
    ]


async def items(cast: Shop) -> list[Any]:
    query = cast.Item.query.order_by("id")
    return list(await query.values_list("name", "count", "note", "changed"))


@in_each_way
async def test_a_new_object_is_new_again(cast: Shop, way: Way) -> None:
    item = cast.Item(name="new", count=1)
    async with way(cast):
        await item.save()
        assert item.note == "none"
        item.count = 2
    assert await items(cast) == []
    assert inspect(item).transient
    assert "id" not in vars(item)
    assert "note" not in vars(item)

    # The keys of rolled-back rows are given again on SQLite.
    stranger = await cast.Item.query.create(name="stranger", count=100)
    with pytest.raises(ObjectNotFound, match="has not been stored"):
        await item.delete()
    await item.save()
    assert await items(cast) == [("stranger", 100, "none", None), ("new", 2, "none", None)]
    assert (await cast.Item.query.get(stranger.id)).name == "stranger"
    await item.save()
    await item.refresh()
    assert (item.name, item.count, item.note) == ("new", 2, "none")


@in_each_way
async def test_a_change_is_a_change_again(cast: Shop, way: Way) -> None:
    await cast.Item.query.create(name="old", count=1)
    item = await cast.Item.query.get(name="old")
    item.name = "changed"
    async with way(cast):
        await item.save()
        assert item.changed == 99
        item.note = "and later"
    assert await items(cast) == [("old", 1, "none", None)]
    assert (item.name, item.note, item.changed) == ("changed", "and later", None)
    assert inspect(item).modified

    await cast.Item.query.update(count=7)  # somebody else, of what is not sent
    await item.save()
    assert await items(cast) == [("changed", 7, "and later", 99)]


@in_each_way
async def test_what_was_set_back_is_no_change(cast: Shop, way: Way) -> None:
    item = await cast.Item.query.create(name="old", count=1)
    item.count = 2
    async with way(cast):
        await item.save()
    item.count = 1
    await item.save()
    assert (await items(cast))[0][:2] == ("old", 1)


@in_each_way
async def test_a_deleted_object_is_stored_again(cast: Shop, way: Way) -> None:
    item = await cast.Item.query.create(name="old", count=1)
    item.note = "changed before"
    async with way(cast):
        await item.delete()
        item.count = 2
    assert inspect(item).detached
    await item.save()
    assert await items(cast) == [("old", 2, "changed before", 99)]
    await item.delete()
    assert await items(cast) == []


@in_each_way
async def test_a_new_graph_is_new_again(cast: Shop, way: Way) -> None:
    known = await cast.Label.query.create(text="known")
    order = cast.Order(name="new", lines=[cast.Line(text="a"), cast.Line(text="b")])
    order.labels = [known, cast.Label(text="new")]
    async with way(cast):
        await order.save()
        assert await orders(cast) == [("new", None, 1, ["a", "b"], ["known", "new"])]
        order.lines.append(cast.Line(text="c"))
    assert await orders(cast) == []
    await cast.Order.query.create(name="stranger", lines=[cast.Line(text="of a stranger")])

    await order.save()
    assert await orders(cast) == [
        ("stranger", None, 1, ["of a stranger"], []),
        ("new", None, 1, ["a", "b", "c"], ["known", "new"]),
    ]
    assert await cast.Label.query.filter(text__in=["known", "new"]).count() == 2
    assert [line.order_id for line in order.lines] == [order.id] * 3
    await order.save()  # nothing is left to be sent
    assert (await cast.Order.query.get(order.id)).version == 1


@in_each_way
async def test_a_changed_graph_is_changed_again(cast: Shop, way: Way) -> None:
    made = cast.Order(name="old", lines=[cast.Line(text="a"), cast.Line(text="b")])
    made.labels = [cast.Label(text="red")]
    await made.save()
    order = await cast.Order.query.prefetch_related("lines", "labels").get(made.id)
    kept, removed = order.lines
    order.total = 5
    order.lines.remove(removed)
    order.lines.append(cast.Line(text="c"))
    order.labels[:] = [cast.Label(text="green")]
    async with way(cast):
        await order.save()
        assert await orders(cast) == [("old", 5, 2, ["a", "c"], ["green"])]
        kept.text = "A"
        await kept.save()
    assert await orders(cast) == [("old", None, 1, ["a", "b"], ["red"])]
    assert order.version == 1

    await order.save()
    assert await orders(cast) == [("old", 5, 2, ["A", "c"], ["green"])]
    assert order.version == 2


@in_each_way
async def test_a_deleted_graph_is_stored_again(cast: Shop, way: Way) -> None:
    made = cast.Order(name="old", lines=[cast.Line(text="a"), cast.Line(text="b")])
    made.labels = [cast.Label(text="red")]
    await made.save()
    order = await cast.Order.query.prefetch_related("lines", "labels").get(made.id)
    first, second = order.lines
    async with way(cast):
        await order.delete()
    order.total = 3
    first.text = "A"
    await order.save()
    assert await orders(cast) == [("old", 3, 2, ["A", "b"], ["red"])]
    second.text = "B"
    await second.save()
    await order.refresh()
    await order.delete()
    assert await orders(cast) == []
    assert await cast.Line.query.count() == 0


@in_each_way
async def test_what_other_verbs_have_made(cast: Shop, way: Way) -> None:
    Item = cast.Item
    await Item.query.create(name="there", count=1)
    changed = await Item.query.get(name="there")
    changed.count = 5
    async with way(cast):
        one, other = await Item.query.bulk_create(
            [{"name": "bulk"}, {"name": "noted", "note": "own"}], returning=True
        )
        made = await Item.query.create(name="created")
        found, is_new = await Item.query.get_or_create(name="got", defaults={"count": 3})
        assert is_new
        updated, _ = await Item.query.update_or_create(name="put", defaults={"count": 4})
        assert await Item.query.bulk_update([changed], ["count"]) == 1
    assert await items(cast) == [("there", 1, "none", None)]

    objects = (one, other, made, found, updated)
    assert [inspect(item).transient for item in objects] == [True] * 5
    assert not [item for item in objects if "id" in vars(item)]
    await Item.query.create(name="stranger")
    for item in (changed, *objects):
        await item.save()
    assert await items(cast) == [
        ("there", 5, "none", 99),
        ("stranger", None, "none", None),
        ("bulk", None, "none", None),
        ("noted", None, "own", None),
        ("created", None, "none", None),
        ("got", 3, "none", None),
        ("put", 4, "none", None),
    ]


@in_each_way
async def test_what_was_refreshed_goes_back(cast: Shop, way: Way) -> None:
    order = await cast.Order.query.create(name="old", total=1)
    async with way(cast):
        await cast.Order.query.filter(id=order.id).update(total=5, version=9)
        await cast.Line.query.create(text="in vain", order_id=order.id)
        await order.refresh()
        await order.refresh("lines")
        assert (order.total, order.version, len(order.lines)) == (5, 9, 1)
    assert (order.total, order.version) == (1, 1)
    assert "lines" not in vars(order)

    order.total = 5
    await order.save()
    assert await orders(cast) == [("old", 5, 2, [], [])]


@in_each_way
async def test_objects_loaded_after_a_write_do_not_know_their_rows(cast: Shop, way: Way) -> None:
    await cast.Item.query.bulk_create([{"name": f"{number}", "count": 1} for number in range(4)])
    async with way(cast):
        await cast.Item.query.update(count=5, note="never")
        found = [
            await cast.Item.query.get(name="0"),
            *await cast.Item.query.filter(name="1"),
            await cast.Item.query.options().first(),
        ]
        async with cast.Item.query.filter(name="3").stream() as stream:
            found += [item async for item in stream]
        found[1].count = 5
    for item in found:
        item.count = 5  # what it shows already
        await item.save()
    assert [row[:3] for row in await items(cast)] == [
        ("0", 5, "none"),
        ("1", 5, "none"),
        ("2", 1, "none"),
        ("3", 5, "none"),
    ]
    found[0].count = 5  # known by now
    assert await cast.Item.query.filter(name="0").update(count=8) == 1
    await found[0].save()
    assert (await cast.Item.query.get(name="0")).count == 8


@in_each_way
async def test_objects_of_a_session_follow_what_it_joined(cast: Shop, way: Way) -> None:
    old: Any = await cast.Order.query.create(name="old", total=1)
    gone = await cast.Order.query.create(name="gone", lines=[cast.Line(text="of it")])
    new = cast.Order(name="new", lines=[cast.Line(text="a")])
    async with way(cast):
        await cast.Label.query.create(text="begins a transaction to be joined")
        async with cast.models.session() as session:
            session.add_all([old, new])
            old.total = 2
            await session.commit()
            new.total = 7
            await session.delete(await session.merge(gone, load=False))
            read = await session.scalar(select(cast.Order).where(cast.Order.name == "old"))
            assert id(read) == id(old)
        assert await orders(cast) == [("old", 2, 2, [], []), ("new", 7, 2, ["a"], [])]
    assert len(await orders(cast)) == 2

    await old.save()
    await new.save()
    assert await orders(cast) == [
        ("old", 2, 2, [], []),
        ("gone", None, 1, ["of it"], []),
        ("new", 7, 1, ["a"], []),
    ]


async def test_objects_in_a_session_that_is_rolled_back_by_hand(database_url: str) -> None:
    async with shop(database_url) as cast:
        old: Any = await cast.Item.query.create(name="old", count=1)
        new, failed = cast.Item(name="new", count=1), cast.Item(name="failed")
        async with cast.models.session() as session:
            session.add_all([old, new])
            old.count = 2
            await session.flush()
            await session.rollback()
            assert old in session
            assert inspect(new).transient
            assert "id" not in vars(new)
            await session.refresh(old)
            session.add_all([failed, cast.Item(name="old")])
            with pytest.raises(IntegrityError):
                await session.flush()
            await session.rollback()
            assert "id" not in vars(failed)
        await cast.Item.query.create(name="stranger")
        for item in (new, failed):
            await item.save()
        old.count = 3
        await old.save()
        assert [row[:2] for row in await items(cast)] == [
            ("old", 3),
            ("stranger", None),
            ("new", 1),
            ("failed", None),
        ]


@pytest.mark.filterwarnings("ignore:transaction already deassociated")  # the session finds out
async def test_objects_in_a_session_whose_connection_is_rolled_back(database_url: str) -> None:
    async with shop(database_url) as cast:
        old: Any = await cast.Item.query.create(name="old", count=1)
        new = cast.Item(name="new", count=1)
        with pytest.raises(KeyError):
            async with cast.models.session() as session:
                session.add_all([old, new])
                old.count = 2
                await session.flush()
                await (await session.connection()).rollback()
                assert new not in session
                assert old in session.dirty
                raise KeyError
        assert inspect(new).transient
        await cast.Item.query.create(name="stranger")
        await new.save()
        old.count = 3
        await old.save()
        assert [row[:2] for row in await items(cast)] == [
            ("old", 3),
            ("stranger", None),
            ("new", 1),
        ]


async def test_a_commit_by_hand_is_kept(database_url: str) -> None:
    async with shop(database_url) as cast:
        item, later = cast.Item(name="kept", count=1), cast.Item(name="later")
        async with cast.models.connection() as connection:
            await item.save()
            await connection.commit()
            item.count = 2
            await item.save()
            await later.save()
            await connection.rollback()
        assert inspect(item).detached
        assert inspect(later).transient
        await cast.Item.query.update(note="of somebody else")
        await item.save()
        assert await items(cast) == [("kept", 2, "of somebody else", 99)]


async def test_each_level_goes_back_to_where_it_began(database_url: str) -> None:
    async with shop(database_url) as cast:
        item = cast.Item(name="new", count=0)
        async with ROLLBACKS["an error in a transaction"](cast):
            item.count = 1
            await item.save()
            key = item.id
            async with ROLLBACKS["an error in a transaction"](cast):
                item.count = 2
                await item.save()
                async with cast.models.transaction():
                    item.name = "again"
                    await item.save()
                async with ROLLBACKS["an error in a transaction"](cast):
                    item.note = "deep"
                    await item.save()
                assert inspect(item).attrs.note.history.has_changes()
                assert not inspect(item).attrs.name.history.has_changes()
                await item.save()
            assert (item.id, item.name, item.count, item.changed) == (key, "again", 2, None)
            assert await cast.Item.query.values_list("name", "count") == [("new", 1)]
            await item.save()
            assert await cast.Item.query.values_list("name", "count") == [("again", 2)]
        assert inspect(item).transient
        await item.save()
        assert await items(cast) == [("again", 2, "deep", None)]
