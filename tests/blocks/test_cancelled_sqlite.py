"""A request that is cancelled on SQLite, at any moment, gives its locks back.

Another process can write within a second, and what ended the request is what its caller sees.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import ForeignKey, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Mapped, mapped_column, relationship

from asgi_dbconn import TransactionClosed
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import HOLD, INSERT, Stage, open_stage

LONG = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
    "SELECT i FROM n"
)
Work = Callable[[Stage], Awaitable[object]]


@pytest.fixture
async def stage(sqlite_stage: Stage) -> Stage:
    for number in range(50):
        await sqlite_stage.create(f"item {number}")
    return sqlite_stage


async def _select(stage: Stage) -> None:
    async with stage.models.transaction() as transaction:
        for _ in range(4):
            (await transaction.connection.execute(text("SELECT * FROM items"))).all()


async def _select_verbs(stage: Stage) -> None:
    async with stage.models.transaction():
        for _ in range(4):
            await stage.Item.query.all()


async def _stream(stage: Stage) -> None:
    async with stage.models.transaction():
        async with stage.Item.query.stream(2) as items:
            async for _ in items:
                await asyncio.sleep(0)


async def _write_and_stream(stage: Stage) -> None:
    async with stage.models.transaction() as transaction:
        await transaction.connection.execute(text("UPDATE items SET n = n + 1"))
        async with transaction.connection.stream(LONG) as rows:
            async for _ in rows:
                pass


async def _stream_on_a_connection(stage: Stage) -> None:
    async with stage.models.connection() as connection:
        async with connection.stream(LONG) as rows:
            async for _ in rows:
                pass


async def _stream_on_the_engine(stage: Stage) -> None:
    async with stage.models.database.engine.connect() as connection:
        await connection.execute(text("UPDATE items SET n = n + 1"))
        async with connection.stream(LONG) as rows:
            async for _ in rows:
                pass


async def _session(stage: Stage) -> None:
    async with stage.models.session() as session:
        await session.execute(text("UPDATE items SET n = n + 1"))
        async for _ in await session.stream(LONG):
            pass


async def _mixture(stage: Stage) -> None:
    async with stage.models.transaction():
        await stage.Item.query.filter(name="item 1").update(n=1)
        async with stage.Item.query.stream(2) as items:
            async for _ in items:
                await asyncio.sleep(0)
        await stage.Item.query.filter(name="item 2").update(n=3)


WORKS: tuple[Work, ...] = (
    _select,
    _select_verbs,
    _stream,
    _write_and_stream,
    _stream_on_a_connection,
    _stream_on_the_engine,
    _session,
    _mixture,
)


async def cancel_at_random(
    stage: Stage, work: Work, times: int, latest: float, chance: random.Random
) -> Counter[str]:
    """Cancel the work at so many random moments; return how it ended."""
    ends = Counter[str]()
    for _ in range(times):
        task = asyncio.ensure_future(work(stage))
        await asyncio.sleep(chance.random() * latest)
        task.cancel()
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        ends["cancelled" if task.cancelled() else repr(error)] += 1
    return ends


@pytest.mark.parametrize("work", WORKS)
async def test_another_process_can_write_after_a_cancelled_request(
    stage: Stage, work: Work
) -> None:
    chance = random.Random(7)
    for _ in range(30):
        await cancel_at_random(stage, work, 1, 0.01, chance)
        await stage.check_connections()


@pytest.mark.parametrize("work", WORKS)
async def test_a_cancelled_request_ends_with_its_cancellation(stage: Stage, work: Work) -> None:
    chance = random.Random(7)
    for _ in range(30):
        ends = await cancel_at_random(stage, work, 1, 0.01, chance)
        assert set(ends) <= {"cancelled", "None"}


async def test_a_cancelled_select_keeps_no_lock(stage: Stage) -> None:
    stage.watcher.hold()

    async def read() -> None:
        async with stage.models.transaction() as transaction:
            await transaction.connection.execute(text(HOLD))

    task = asyncio.create_task(read())
    await stage.until_held()
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.cancelled()
    await stage.check_connections()
    await asyncio.wait_for(stage.create("next"), 2)


@pytest.mark.parametrize("turns", range(8))
async def test_a_stream_that_is_cancelled_soon_after_its_first_row(
    stage: Stage, turns: int
) -> None:
    started = asyncio.Event()

    async def read() -> None:
        async with stage.models.transaction() as transaction:
            await transaction.connection.execute(INSERT, {"name": "gone"})
            async with transaction.connection.stream(LONG) as rows:
                async for _ in rows:
                    started.set()

    for extra in range(0, 40, 8):
        started.clear()
        task = asyncio.create_task(read())
        await started.wait()
        for _ in range(turns + extra):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=3)
        assert task.cancelled(), task
        await stage.check_connections()
    assert "gone" not in stage.watcher.names()


def _of_the_engine(stage: Stage) -> Any:
    engine: AsyncEngine = stage.models.database.engine
    return engine.connect()


def _of_the_registry(stage: Stage) -> Any:
    return stage.models.connection()


@pytest.mark.parametrize("door", [_of_the_engine, _of_the_registry])
async def test_a_timeout_is_a_timeout(stage: Stage, door: Callable[[Stage], Any]) -> None:
    ends = Counter[str]()
    for number in range(300):
        try:
            async with asyncio.timeout(0.003 + 0.0002 * (number % 50)):
                async with door(stage) as connection, connection.stream(LONG) as rows:
                    async for _ in rows:
                        pass
        except Exception as error:
            ends[f"{type(error).__name__}: {error}"] += 1
    assert set(ends) <= {"TimeoutError: "}, ends
    await stage.check_connections()


async def test_two_cancellations_are_a_cancellation(stage: Stage) -> None:
    for turns in range(12):
        stage.watcher.hold()
        task = asyncio.ensure_future(_held(stage))
        await stage.until_held()
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=2)
        assert task.cancelled()
        stage.watcher.release()
        await stage.check_connections()


async def _held(stage: Stage) -> None:
    async with stage.models.transaction() as transaction:
        await transaction.connection.execute(text("UPDATE items SET n = 1"))
        await transaction.connection.execute(text(HOLD))


@pytest.mark.parametrize("work", [_mixture, _write_and_stream, _session])
async def test_no_lock_outlives_disconnect(
    sqlite_url: str, other_process: OtherProcess, work: Work
) -> None:
    chance = random.Random(3)
    async with open_stage(sqlite_url, other_process) as stage:
        for number in range(50):
            await stage.create(f"item {number}")
        for _ in range(60):
            await cancel_at_random(stage, work, 1, 0.02, chance)
            if await stage.watcher.complain_about_locks() is not None:
                break  # what matters here is whether it ends with the connections
        await stage.models.disconnect()
        assert await stage.watcher.complain_about_locks() is None
        await stage.models.connect()


async def test_an_abandoned_result_keeps_no_lock(stage: Stage) -> None:
    kept: list[object] = []

    async def read() -> None:
        async with stage.models.transaction() as transaction:
            await transaction.connection.execute(text("UPDATE items SET n = 1"))
            result = await transaction.connection.stream(LONG)
            kept.append(result)
            await result.fetchone()
            raise KeyError

    with suppress(KeyError):
        await read()
    await stage.check_connections()
    assert kept


@pytest.mark.filterwarnings("ignore:transaction already deassociated:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("kind", ["transaction", "session", "connection"])
async def test_an_answer_that_comes_when_the_block_has_given_up(stage: Stage, kind: str) -> None:
    # The block is cancelled twice, and does not wait for its child's INSERT, which succeeds.
    base: Any = stage.Item.__base__

    class Part(base):  # type: ignore[misc]
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        item_id: Mapped[int] = mapped_column(ForeignKey("items.id"))

    stage.Item.parts = relationship(Part)
    await stage.models.create_all()
    item = stage.Item(name="slow", parts=[Part(), Part()])
    children = []

    async def leave() -> None:
        async with getattr(stage.models, kind)():
            stage.watcher.hold()
            children.append(asyncio.create_task(item.save()))
            await asyncio.Event().wait()

    leaving = asyncio.create_task(leave())
    await stage.until_held()
    leaving.cancel()
    await asyncio.sleep(0)
    stage.watcher.release()
    time.sleep(0.3)  # noqa: ASYNC251 - until the thread of the connection has its answer
    leaving.cancel()
    await asyncio.wait({leaving, *children}, timeout=3)
    assert leaving.cancelled()
    assert type(children[0].exception()) is TransactionClosed

    assert inspect(item).key is None
    assert item.__dict__.get("id") is None
    await stage.create("stranger")  # SQLite gives it the key that the item has had
    item.name = "quick"
    await item.save()
    assert {"quick", "stranger"} <= set(stage.watcher.names())
