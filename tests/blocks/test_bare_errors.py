"""Every error of a block or verb is SQLAlchemy's or ours, and the right one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from asgi_dbconn import ConnectionLost, DatabaseUnavailable
from tests.blocks.ends import BlockError
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import INSERT, Stage, open_stage

# -- a fetch that fails

DIVIDE = "SELECT 10 / (3 - n) FROM generate_series(1, 9) AS n"
OVERFLOW = (
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9) "
    "SELECT abs(CASE WHEN n = 5 THEN -9223372036854775808 ELSE n END) FROM numbers"
)
ONE_BY_ONE = {"yield_per": 1}


def failing_rows(stage: Stage) -> Any:
    return text(OVERFLOW if stage.is_sqlite else DIVIDE)


async def _connection(stage: Stage) -> None:
    async with stage.models.connection() as connection:
        async with connection.stream(failing_rows(stage), execution_options=ONE_BY_ONE) as rows:
            async for _ in rows:
                pass


async def _transaction(stage: Stage) -> None:
    async with stage.models.transaction() as transaction:
        rows = await transaction.connection.stream(
            failing_rows(stage), execution_options=ONE_BY_ONE
        )
        async for _ in rows:
            pass


async def _session(stage: Stage) -> None:
    async with stage.models.session() as session:
        async for _ in await session.stream(failing_rows(stage), execution_options=ONE_BY_ONE):
            pass


async def _engine(stage: Stage) -> None:
    async with stage.models.database.engine.connect() as connection:
        async with connection.stream(failing_rows(stage), execution_options=ONE_BY_ONE) as rows:
            async for _ in rows:
                pass


async def _objects(stage: Stage) -> None:
    broken = "abs(CASE WHEN items.name = 'item 5' THEN -9223372036854775808 ELSE 1 END) > 0"
    if not stage.is_sqlite:
        broken = "1 / (CASE WHEN items.name = 'item 5' THEN 0 ELSE 1 END) > 0"
    async with stage.Item.query.filter(text(broken)).order_by("id").stream(1) as items:
        async for _ in items:
            pass


async def _objects_in_a_transaction(stage: Stage) -> None:
    async with stage.models.transaction():
        await _objects(stage)


@pytest.mark.parametrize(
    "work",
    [_connection, _transaction, _session, _engine, _objects, _objects_in_a_transaction],
)
async def test_a_fetch_that_fails(stage: Stage, work: Callable[[Stage], Awaitable[None]]) -> None:
    names = [f"item {number}" for number in range(9)]
    for name in names:
        await stage.create(name)
    with pytest.raises(DBAPIError):
        await work(stage)
    await stage.check(*names)


CONFLICT = """
CREATE SEQUENCE tries;
CREATE FUNCTION conflict(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF n = 3 AND nextval('tries') < 3 THEN
        RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
    END IF;
    RETURN n;
END $$;
CREATE VIEW conflicting AS SELECT conflict(n) AS n FROM generate_series(1, 9) AS n;
"""


@pytest.mark.parametrize("way", ["connection", "objects", "session", "verb"])
async def test_a_conflict_in_a_fetch_is_run_again(postgres_stage: Stage, way: str) -> None:
    stage = postgres_stage
    stage.postgres.execute(CONFLICT)
    for number in range(5):
        await stage.create(f"item {number}")
    attempts = Counter[str]()
    rows = text("SELECT n FROM conflicting")

    async def read() -> None:
        attempts[way] += 1
        await stage.create("own")
        if way == "connection":
            async with stage.models.connection() as connection:
                async with connection.stream(rows, execution_options=ONE_BY_ONE) as found:
                    async for _ in found:
                        pass
        elif way == "session":
            async with stage.models.session() as session:
                async for _ in await session.stream(rows, execution_options=ONE_BY_ONE):
                    pass
        elif way == "objects":
            query = stage.Item.query.filter(text("conflict(items.id) > 0")).order_by("id")
            async with query.stream(1) as items:
                async for _ in items:
                    pass
        else:
            await stage.Item.query.filter(text("conflict(items.id) > 0")).all()

    await stage.models.run_transaction(read)
    assert attempts[way] == 3
    await stage.check(*(f"item {number}" for number in range(5)), "own")


# -- backends that are killed


@pytest.fixture
async def trusting(postgres_url: str, other_process: OtherProcess) -> AsyncIterator[Stage]:
    """One connection, which is not asked whether it lives before it is handed out."""
    options: dict[str, Any] = {"pool_size": 1, "idle_check_after": 60.0}
    async with open_stage(postgres_url, other_process, **options) as stage:
        yield stage


async def _get(stage: Stage) -> None:
    await stage.Item.query.first()


async def _create(stage: Stage) -> None:
    await stage.create("own")


async def _bulk(stage: Stage) -> None:
    await stage.Item.query.bulk_create([{"name": "a"}, {"name": "b"}])


async def _save(stage: Stage) -> None:
    await stage.Item(name="own").save()


async def _get_or_create(stage: Stage) -> None:
    await stage.Item.query.get_or_create(name="own")


async def _stream(stage: Stage) -> None:
    async with stage.Item.query.stream(1) as items:
        async for _ in items:
            pass


async def _in_transaction(stage: Stage) -> None:
    async with stage.models.transaction():
        await stage.create("own")


async def _in_strict_transaction(stage: Stage) -> None:
    async with stage.models.transaction(isolation_level="SERIALIZABLE", readonly=True):
        await stage.Item.query.first()


async def _in_connection(stage: Stage) -> None:
    async with stage.models.connection() as connection:
        await connection.execute(INSERT, {"name": "own"})


async def _in_session(stage: Stage) -> None:
    async with stage.models.session() as session:
        await session.execute(INSERT, {"name": "own"})


async def _driver(stage: Stage) -> None:
    async with stage.models.transaction() as transaction:
        await transaction.connection.get_raw_connection()
        await transaction.connection.execute(INSERT, {"name": "own"})


WORKS = (
    _get,
    _create,
    _bulk,
    _save,
    _get_or_create,
    _stream,
    _in_transaction,
    _in_strict_transaction,
    _in_connection,
    _in_session,
    _driver,
)
Work = Callable[[Stage], Awaitable[None]]


@pytest.mark.parametrize("work", WORKS)
async def test_a_backend_that_was_killed_while_idle(trusting: Stage, work: Work) -> None:
    for turns in range(6):
        with suppress(IntegrityError):
            await work(trusting)  # its statements are prepared
        trusting.postgres.terminate()
        for _ in range(turns):
            await asyncio.sleep(0)
        with suppress(ConnectionLost, DatabaseUnavailable, IntegrityError):
            await work(trusting)
    await trusting.Item.query.delete()
    await trusting.check()


@pytest.mark.parametrize("work", WORKS)
async def test_backends_that_are_killed_at_any_moment(postgres_stage: Stage, work: Work) -> None:
    stage, ends = postgres_stage, Counter[str]()
    chance = random.Random(14)
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.8

    async def run() -> None:
        while loop.time() < end:
            try:
                await work(stage)
            except (DatabaseUnavailable, IntegrityError):
                continue
            except Exception as error:
                ends[f"{type(error).__module__}.{type(error).__name__}: {error}"] += 1

    async def kill() -> None:
        while loop.time() < end:
            # Also those that are about to be opened: their first statements meet the end.
            await asyncio.to_thread(stage.postgres.terminate_half)
            await asyncio.sleep(chance.random() * 0.01)

    await asyncio.gather(kill(), *(run() for _ in range(4)))
    assert not ends
    await stage.Item.query.delete()
    await stage.check()


async def test_a_backend_that_is_killed_between_two_statements(postgres_stage: Stage) -> None:
    stage = postgres_stage
    for kind in ("transaction", "session", "connection"):
        for end in ("verb", "savepoint", "joined session", "end"):
            with pytest.raises(ConnectionLost):
                async with getattr(stage.models, kind)():
                    await stage.create("own")
                    stage.postgres.terminate()
                    if end == "verb":
                        await stage.create("more")
                    elif end == "savepoint":
                        async with stage.models.transaction():
                            await stage.create("more")
                    elif end == "joined session":
                        async with stage.models.session() as session:
                            await session.execute(INSERT, {"name": "more"})
    await stage.check()


async def test_a_first_statement_on_a_dead_connection(postgres_stage: Stage) -> None:
    stage = postgres_stage
    for kind in ("transaction", "session", "connection"):
        with pytest.raises(ConnectionLost):
            async with getattr(stage.models, kind)() as handle:
                executor: Any = handle.connection if kind == "transaction" else handle
                await executor.execute(text("SELECT 1"))
                stage.postgres.terminate()
                async with executor.begin_nested():
                    await executor.execute(INSERT, {"name": "own"})
    await stage.check()


# -- streams that are cancelled after their block has ended


@pytest.mark.parametrize("kind", ["transaction", "session", "connection"])
@pytest.mark.parametrize("way", ["objects", "rows"])
async def test_a_stream_that_is_cancelled_after_its_block(
    stage: Stage, kind: str, way: str
) -> None:
    for number in range(3):
        await stage.create(f"item {number}")
    is_reading = asyncio.Event()

    async def read(executor: Any) -> None:
        if way == "objects":
            async with stage.Item.query.stream(1) as items:
                async for _ in items:
                    is_reading.set()
                    await asyncio.Event().wait()
        else:
            statement = text("SELECT * FROM items")
            rows = await executor.stream(statement, execution_options=ONE_BY_ONE)
            try:
                async for _ in rows:
                    is_reading.set()
                    await asyncio.Event().wait()
            finally:
                await rows.close()

    async with getattr(stage.models, kind)() as handle:
        task = asyncio.create_task(read(handle.connection if kind == "transaction" else handle))
        await is_reading.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.cancelled(), task
    await stage.check(*(f"item {number}" for number in range(3)))


# -- strangers


async def fail_beside_tasks(stage: Stage, turns: int) -> list[asyncio.Task[Any]]:
    """Leave a block by an error while its tasks fail; return the tasks."""
    tasks: list[asyncio.Task[Any]] = []
    with suppress(BlockError):
        async with stage.models.transaction():
            tasks += [asyncio.create_task(stage.create("taken")) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            raise BlockError
    return tasks


async def test_a_stranger_is_not_told_of_the_failure_of_another(stage: Stage) -> None:
    await stage.create("taken")
    for number in range(10):
        tasks = await fail_beside_tasks(stage, number % 5)
        for name in (f"item {number}", f"other {number}"):
            item = stage.Item(name=name)
            await item.save()
            item.n = 1
            await item.save()
            assert name in stage.watcher.names()
            await asyncio.gather(*tasks, return_exceptions=True)
    await stage.check(*stage.watcher.names())


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
@pytest.mark.parametrize("kind", ["transaction", "session", "connection"])
async def test_an_error_at_the_end_of_the_block_does_not_reach_strangers(
    stage: Stage, kind: str, fails: bool
) -> None:
    # The statement of a child fails while the block is being rolled back.
    await stage.create("slow taken")
    tasks: list[asyncio.Task[Any]] = []
    with suppress(Exception):
        async with getattr(stage.models, kind)():
            await stage.Item.query.count()
            stage.watcher.hold()
            tasks.append(asyncio.create_task(stage.create("slow taken")))
            await stage.until_held()
            asyncio.get_running_loop().call_later(0.05, stage.watcher.release)
            if fails:
                raise BlockError
    await asyncio.gather(*tasks, return_exceptions=True)
    for number in range(5):
        item = stage.Item(name=f"item {number}")
        await item.save()
        assert f"item {number}" in stage.watcher.names()
    await stage.check("slow taken", *(f"item {number}" for number in range(5)))
