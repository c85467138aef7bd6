"""SQLite: a session or connection that has read can write, whoever wrote in between.

It begins DEFERRED; its first write that meets a lock is sent once more, in a transaction that has
begun IMMEDIATE. That is READ COMMITTED: who reads, computes and writes takes ``transaction()``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from asgi_dbconn import ObjectNotFound
from tests.blocks.ends import BlockError
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import INSERT, Stage, open_stage

READ = text("SELECT count(*) FROM items")
Request = Callable[[Stage, str], Awaitable[None]]


@pytest.fixture
async def stage(sqlite_stage: Stage) -> Stage:
    await sqlite_stage.create("seed")
    return sqlite_stage


async def _session(stage: Stage, name: str) -> None:
    async with stage.models.session() as session:
        await session.execute(select(stage.Item).limit(1))
        await asyncio.sleep(0)
        session.add(stage.Item(name=name))
        await session.commit()


async def _session_without_a_commit(stage: Stage, name: str) -> None:
    async with stage.models.session() as session:
        await session.execute(select(stage.Item).limit(1))
        await asyncio.sleep(0)
        session.add(stage.Item(name=name))


async def _connection(stage: Stage, name: str) -> None:
    async with stage.models.connection() as connection:
        await connection.execute(READ)
        await asyncio.sleep(0)
        await connection.execute(INSERT, {"name": name})


async def _verbs_in_a_session(stage: Stage, name: str) -> None:
    async with stage.models.session():
        await stage.Item.query.first()
        await asyncio.sleep(0)
        await stage.create(name)


async def _verbs_in_a_connection(stage: Stage, name: str) -> None:
    async with stage.models.connection():
        await stage.Item.query.count()
        await asyncio.sleep(0)
        await stage.create(name)


async def _savepoint_in_a_session(stage: Stage, name: str) -> None:
    async with stage.models.session():
        await stage.Item.query.first()
        await asyncio.sleep(0)
        async with stage.models.transaction():
            await stage.create(name)


async def _read_in_a_savepoint(stage: Stage, name: str) -> None:
    async with stage.models.connection():
        async with stage.models.transaction():
            await stage.Item.query.first()
        await asyncio.sleep(0)
        await stage.create(name)


async def _session_on_the_engine(stage: Stage, name: str) -> None:
    async with AsyncSession(stage.models.database.engine) as session:
        await session.execute(select(stage.Item).limit(1))
        await asyncio.sleep(0)
        session.add(stage.Item(name=name))
        await session.commit()


async def _engine(stage: Stage, name: str) -> None:
    async with stage.models.database.engine.begin() as connection:
        await connection.execute(READ)
        await asyncio.sleep(0)
        await connection.execute(INSERT, {"name": name})


async def _several_writes(stage: Stage, name: str) -> None:
    async with stage.models.session() as session:
        await session.execute(select(stage.Item).limit(1))
        await asyncio.sleep(0)
        await session.execute(text("UPDATE items SET n = n + 1 WHERE name = 'seed'"))
        session.add(stage.Item(name=name))


REQUESTS: tuple[Request, ...] = (
    _session,
    _session_without_a_commit,
    _connection,
    _verbs_in_a_session,
    _verbs_in_a_connection,
    _savepoint_in_a_session,
    _read_in_a_savepoint,
    _session_on_the_engine,
    _engine,
    _several_writes,
)


@pytest.mark.parametrize("request_of", REQUESTS)
async def test_ten_requests_at_the_same_time(
    sqlite_url: str, other_process: OtherProcess, request_of: Request
) -> None:
    seen = Counter[str]()
    async with open_stage(sqlite_url, other_process, pool_size=10) as stage:
        await stage.create("seed")

        async def run(name: str) -> None:
            try:
                await request_of(stage, name)
                seen["stored"] += 1
            except Exception as error:
                seen[f"{type(error).__name__}: {getattr(error, 'orig', error)}"] += 1

        for number in range(10):
            await asyncio.gather(*(run(f"item {number} {at}") for at in range(10)))
        assert seen == {"stored": 100}
        assert len(stage.watcher.names()) == 101


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_somebody_else_wrote_in_between(stage: Stage, kind: str) -> None:
    async with getattr(stage.models, kind)() as handle:
        assert (await handle.execute(READ)).scalar_one() == 1
        await write_elsewhere(stage, INSERT, name="other")
        await handle.execute(INSERT, {"name": "own"})
        # READ COMMITTED: what others have committed meanwhile is seen from here on.
        assert (await handle.execute(READ)).scalar_one() == 3
    await stage.check("other", "own", "seed")


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_somebody_else_is_writing(stage: Stage, kind: str) -> None:
    async with getattr(stage.models, kind)() as handle:
        await handle.execute(READ)
        has_lock = asyncio.Event()
        holder = asyncio.create_task(hold_lock(stage, has_lock))
        await has_lock.wait()
        await handle.execute(INSERT, {"name": "own"})  # waits for the lock, like any writer
        await holder
    await stage.check("holder", "own", "seed")


async def hold_lock(stage: Stage, has_lock: asyncio.Event) -> None:
    """Write, and keep the lock for a while."""

    async def write() -> None:
        async with stage.models.transaction():
            await stage.create("holder")
            has_lock.set()
            await asyncio.sleep(0.2)

    await outside(write)


async def outside(work: Callable[[], Awaitable[None]]) -> None:
    """Await the work in a context of its own: it is no part of the caller's block."""
    await Context().run(asyncio.ensure_future, _as_coroutine(work))


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def write_elsewhere(stage: Stage, statement: Any, **parameters: object) -> None:
    async def write() -> None:
        async with stage.models.transaction() as transaction:
            await transaction.connection.execute(statement, parameters)

    await outside(write)


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_an_update_that_was_computed_before_is_lost_and_stored_anyway(
    stage: Stage, kind: str
) -> None:
    async with getattr(stage.models, kind)() as handle:
        number = (await handle.execute(text("SELECT n FROM items"))).scalar_one()
        await write_elsewhere(stage, text("UPDATE items SET n = n + 1"))
        await handle.execute(text("UPDATE items SET n = :n"), {"n": number + 1})
    assert (await stage.Item.query.get(name="seed")).n == 1


async def check_that_none_is_lost(stage: Stage, increment: Callable[[], Awaitable[None]]) -> None:
    for _ in range(4):
        await asyncio.gather(*(increment() for _ in range(10)))
    assert (await stage.Item.query.get(name="seed")).n == 40


async def test_read_compute_write_in_a_transaction_is_exact(stage: Stage) -> None:
    async def increment() -> None:
        async with stage.models.transaction():
            item = await stage.Item.query.get(name="seed")
            await asyncio.sleep(0)
            item.n += 1
            await item.save()

    await check_that_none_is_lost(stage, increment)


# -- what locks rows before it writes


@pytest.mark.parametrize("has_read", [True, False])
@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_a_read_that_locks_takes_the_write_lock(
    stage: Stage, kind: str, has_read: bool
) -> None:
    async def increment() -> None:
        async with getattr(stage.models, kind)():
            if has_read:
                await stage.Item.query.count()
                await asyncio.sleep(0)
            item = await stage.Item.query.with_for_update().get(name="seed")
            await asyncio.sleep(0)
            item.n += 1
            await item.save()

    await check_that_none_is_lost(stage, increment)


async def test_a_read_that_locks_by_sqlalchemys_own_means(stage: Stage) -> None:
    async def increment() -> None:
        async with stage.models.session() as session:
            item = await session.get_one(stage.Item, 1, with_for_update=True)
            await asyncio.sleep(0)
            item.n += 1

    await check_that_none_is_lost(stage, increment)


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_rows_that_are_gone_when_they_are_changed(stage: Stage, kind: str) -> None:
    item, other = await stage.Item.query.get(name="seed"), await stage.create("other")
    async with getattr(stage.models, kind)():
        await stage.Item.query.count()
        await write_elsewhere(stage, text("DELETE FROM items WHERE name = 'seed'"))
        item.n = other.n = 5
        assert await stage.Item.query.bulk_update([item, other], ["n"]) == 1
    async with getattr(stage.models, kind)():
        await stage.Item.query.count()
        await write_elsewhere(stage, text("DELETE FROM items WHERE name = 'other'"))
        with pytest.raises(ObjectNotFound):
            await other.delete()
    await stage.check()


async def test_a_read_that_locks_in_a_transaction_that_has_written(stage: Stage) -> None:
    async with stage.models.session():
        await stage.create("own")
        items = await stage.Item.query.order_by("name").with_for_update()
        assert [item.name for item in items] == ["own", "seed"]
    await stage.check("own", "seed")


async def test_a_read_that_locks_beside_an_open_stream(stage: Stage) -> None:
    async with stage.Item.query.stream(1) as items:
        async for _ in items:
            assert len(await stage.Item.query.with_for_update()) == 1
    await stage.check("seed")


# -- what cannot be


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_with_an_open_cursor_the_error_says_why(stage: Stage, kind: str) -> None:
    await stage.create("second")
    with pytest.raises(Exception, match=r"(?i)cursor|stream"):
        async with getattr(stage.models, kind)() as handle:
            if kind == "session":
                rows = await handle.stream(text("SELECT name FROM items"))
            else:
                rows = await handle.stream(
                    text("SELECT name FROM items"), execution_options={"yield_per": 1}
                )
            await rows.fetchone()
            await write_elsewhere(stage, INSERT, name="other")
            await handle.execute(INSERT, {"name": "own"})
    await stage.check("other", "second", "seed")


async def test_with_an_open_stream_of_objects_the_error_says_why(stage: Stage) -> None:
    await stage.create("second")
    with pytest.raises(Exception, match=r"(?i)cursor|stream"):
        async with stage.Item.query.stream(1) as items:
            async for _ in items:
                await write_elsewhere(stage, INSERT, name="other")
                await stage.create("own")
    await stage.check("other", "second", "seed")


async def test_a_transaction_that_has_written_is_never_begun_again(stage: Stage) -> None:
    with pytest.raises(BlockError):
        async with stage.models.session() as session:
            await session.execute(READ)
            await session.execute(INSERT, {"name": "first"})
            await session.execute(INSERT, {"name": "second"})
            raise BlockError
    await stage.check("seed")


async def test_a_readonly_transaction_still_refuses(stage: Stage) -> None:
    with pytest.raises(DBAPIError, match="readonly"):
        async with stage.models.transaction(readonly=True):
            await stage.Item.query.count()
            await write_elsewhere(stage, INSERT, name="other")
            await stage.create("own")
    await stage.check("other", "seed")


async def test_on_commit_is_called_after_an_upgrade(stage: Stage) -> None:
    called: list[str] = []
    async with stage.models.session():
        await stage.Item.query.count()
        await write_elsewhere(stage, INSERT, name="other")
        async with stage.models.transaction() as transaction:
            transaction.on_commit(lambda: called.append("called"))
            await stage.create("own")
    assert called == ["called"]
    await stage.check("other", "own", "seed")
