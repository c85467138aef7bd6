"""A statement that is cancelled inside a savepoint takes the savepoint along, and nothing else.

The outer transaction goes on, on the same connection, and its rows are committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import TransactionAborted
from tests.blocks.children import CHILD_NAME, CHILDREN, Child, Pause, children_of
from tests.blocks.ends import FAILING_ENDS, LONGEST, BlockError, Run
from tests.blocks.kinds import KINDS
from tests.blocks.stage import HOLD, INSERT, Stage

SAVEPOINT = KINDS["transaction"]
"""Inside of another transaction it is a savepoint."""


async def backend(stage: Stage, connection: AsyncConnection) -> object:
    if stage.is_sqlite:
        return (await connection.get_raw_connection()).driver_connection
    return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()


async def _own_verb(stage: Stage, connection: AsyncConnection) -> None:
    await stage.create("slow own")


async def _own_execute(stage: Stage, connection: AsyncConnection) -> None:
    await connection.execute(INSERT, {"name": "slow own"})


async def _own_read(stage: Stage, connection: AsyncConnection) -> None:
    await connection.execute(text(HOLD))


async def _own_stream(stage: Stage, connection: AsyncConnection) -> None:
    async with stage.Item.query.filter(text(f"({HOLD}) > 0")).stream(1) as items:
        async for _ in items:
            pass


@pytest.mark.parametrize("work", [_own_read, _own_stream])
async def test_a_timeout_around_a_statement_in_a_savepoint(
    stage: Stage, work: Callable[[Stage, AsyncConnection], Awaitable[None]]
) -> None:
    await time_out_in_a_savepoint(stage, work)


# SQLite cannot stop a statement that writes without rolling back the whole transaction.
@pytest.mark.parametrize("work", [_own_verb, _own_execute])
async def test_a_timeout_around_a_statement_that_writes_in_a_savepoint(
    postgres_stage: Stage, work: Callable[[Stage, AsyncConnection], Awaitable[None]]
) -> None:
    await time_out_in_a_savepoint(postgres_stage, work)


async def time_out_in_a_savepoint(
    stage: Stage, work: Callable[[Stage, AsyncConnection], Awaitable[None]]
) -> None:
    async with stage.models.transaction() as transaction:
        await stage.create("outer")
        before = await backend(stage, transaction.connection)
        stage.watcher.hold()
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1), stage.models.transaction() as savepoint:
                await savepoint.connection.execute(INSERT, {"name": "inner"})
                await work(stage, savepoint.connection)
        assert type(caught.value) is TimeoutError
        stage.watcher.release()
        await stage.create("more")
        assert await backend(stage, transaction.connection) == before
    await stage.check("outer", "more")


@pytest.mark.parametrize("is_inside", [True, False], ids=["group inside", "group around"])
async def test_a_task_group_with_a_failing_sibling(postgres_stage: Stage, is_inside: bool) -> None:
    stage = postgres_stage

    async def fail() -> None:
        await stage.until_held()
        raise BlockError

    async def inside() -> None:
        async with stage.models.transaction(), asyncio.TaskGroup() as group:
            await stage.create("inner")
            group.create_task(fail())
            group.create_task(stage.create("slow inner"))

    async def around() -> None:
        async def store() -> None:
            async with stage.models.transaction():
                await stage.create("inner")
                await stage.create("slow inner")

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(store())

    seen: list[type[BaseException]] = []
    async with stage.models.transaction() as transaction:
        await stage.create("outer")
        before = await backend(stage, transaction.connection)
        stage.watcher.hold()
        try:
            await (inside() if is_inside else around())
        except* BlockError as group_of_errors:
            seen += [type(error) for error in group_of_errors.exceptions]
        stage.watcher.release()
        await stage.create("more")
        assert await backend(stage, transaction.connection) == before
    assert seen == [BlockError]
    await stage.check("outer", "more")


def matrix() -> list[Child]:
    return [child for child in children_of(SAVEPOINT) if not child.is_raw]


@pytest.mark.parametrize("end", ["error", "timeout", "cancel", "sibling"])
@pytest.mark.parametrize("child", matrix(), ids=lambda child: child.name)
async def test_the_outer_transaction_outlives_a_child_of_its_savepoint(
    stage: Stage, child: Child, end: str
) -> None:
    async def run_block() -> None:
        async with stage.models.transaction() as transaction:
            await stage.create("outer")
            before = await backend(stage, transaction.connection)
            run = Run(stage, SAVEPOINT, child)
            await FAILING_ENDS[end](run)
            await run.settle()
            run.check_child()
            assert run.seconds < LONGEST
            stage.watcher.release()
            await stage.create("more")
            assert await backend(stage, transaction.connection) == before

    if stage.loses_all_with(child):
        with pytest.raises(TransactionAborted):
            await run_block()
        await stage.check()
    else:
        await run_block()
        await stage.check("outer", "more")


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_a_savepoint_of_a_session_or_connection(stage: Stage, kind: str) -> None:
    async with getattr(stage.models, kind)():
        await stage.create("outer")
        run = Run(stage, SAVEPOINT, CHILDREN["reading verb"])
        await FAILING_ENDS["error"](run)
        await run.settle()
        run.check_child()
        assert run.seconds < LONGEST
        stage.watcher.release()
        await stage.create("more")
    await stage.check("outer", "more")


@pytest.mark.parametrize("depth", [2, 4])
async def test_a_cancelled_statement_deep_inside(postgres_stage: Stage, depth: int) -> None:
    stage = postgres_stage

    async def nest(level: int) -> None:
        async with stage.models.transaction():
            await stage.create(f"level {level}")
            if level < depth:
                with suppress(TimeoutError):
                    await nest(level + 1)
            else:
                stage.watcher.hold()
                async with asyncio.timeout(0.05):
                    await stage.create("slow")

    await nest(1)
    stage.watcher.release()
    await stage.check(*(f"level {level}" for level in range(1, depth)))


async def test_siblings_go_on_when_one_savepoint_is_cancelled(postgres_stage: Stage) -> None:
    stage = postgres_stage

    async def store(name: str) -> None:
        async with stage.models.transaction():
            await stage.create(name)

    async with stage.models.transaction():
        stage.watcher.hold()
        first = asyncio.create_task(store("slow first"))
        await stage.until_held()
        others = [asyncio.create_task(store(f"other {number}")) for number in range(3)]
        first.cancel()
        await asyncio.gather(*others)
        assert first.cancelled()
        stage.watcher.release()
    await stage.check("other 0", "other 1", "other 2")


async def test_a_savepoint_that_ends_well_waits_and_keeps_its_children(stage: Stage) -> None:
    async with stage.models.transaction():
        async with stage.models.transaction():
            stage.watcher.hold()
            task = asyncio.ensure_future(CHILDREN["verb"].work(stage, None, Pause()))
            await stage.until_held()
            asyncio.get_running_loop().call_later(0.05, stage.watcher.release)
        assert task.done()
        await task
        await stage.create("outer")
    await stage.check("outer", CHILD_NAME)


async def test_a_failed_statement_of_a_child_spoils_only_the_savepoint(stage: Stage) -> None:
    async with stage.models.transaction():
        await stage.create("outer")
        with pytest.raises(IntegrityError):
            async with stage.models.transaction(), asyncio.timeout(5):
                await asyncio.gather(*(stage.create("outer") for _ in range(5)))
        await stage.create("more")
    await stage.check("outer", "more")


@pytest.mark.parametrize("name", ["joined connection", "joined session"])
async def test_a_cancelled_statement_in_a_savepoint_around_a_joined_block(
    stage: Stage, name: str
) -> None:
    async with stage.models.transaction():
        await stage.create("outer")
        run = Run(stage, KINDS[name], CHILDREN["reading verb"])
        await FAILING_ENDS["error"](run)
        await run.settle()
        run.check_child()
        assert run.seconds < LONGEST
        stage.watcher.release()
        await stage.create("more")
    await stage.check("outer", "more")
