"""A statement that is cancelled inside a savepoint takes the savepoint along, and nothing else.

The outer transaction goes on, on the same connection, and its rows are committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import TransactionAborted
from tests.blocks.children import CHILD_NAME, CHILDREN, Child, Pause, children_of, driver_of
from tests.blocks.ends import FAILING_ENDS, LONGEST, BlockError, Run
from tests.blocks.kinds import KINDS
from tests.blocks.stage import HOLD, INSERT, Stage

SAVEPOINT = KINDS["transaction"]
"""Inside of another transaction it is a savepoint."""


async def backend(stage: Stage, connection: AsyncConnection) -> object:
    if stage.is_sqlite:
        return await driver_of(connection)
    return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()


async def outlive(
    stage: Stage, work: Callable[[], Awaitable[None]], *, can_be_interrupted: bool = True
) -> None:
    """Let the work fail inside of an outer transaction, and check what becomes of that one."""
    lost = nullcontext() if can_be_interrupted else pytest.raises(TransactionAborted)
    with lost:
        async with stage.models.transaction() as transaction:
            await stage.create("outer")
            before = await backend(stage, transaction.connection)
            stage.watcher.hold()
            await work()
            stage.watcher.release()
            await stage.create("more")
            assert await backend(stage, transaction.connection) == before
    await stage.check(*(["outer", "more"] if can_be_interrupted else []))


async def _own_verb(stage: Stage) -> None:
    await stage.create("slow own")


async def _own_execute(stage: Stage) -> None:
    async with stage.models.connection() as connection:
        await connection.execute(INSERT, {"name": "slow own"})


async def _own_read(stage: Stage) -> None:
    async with stage.models.connection() as connection:
        await connection.execute(text(HOLD))


async def _own_reading_verb(stage: Stage) -> None:
    await stage.Item.query.filter(text(f"({HOLD}) > 0")).all()


async def _own_stream(stage: Stage) -> None:
    async with stage.Item.query.filter(text(f"({HOLD}) > 0")).stream(1) as items:
        async for _ in items:
            pass


Work = Callable[[Stage], Awaitable[None]]
READS: tuple[Work, ...] = (_own_read, _own_reading_verb, _own_stream)
WRITES: tuple[Work, ...] = (_own_verb, _own_execute)


@pytest.mark.parametrize("work", [*READS, *WRITES])
async def test_a_timeout_around_a_statement_in_a_savepoint(stage: Stage, work: Work) -> None:
    async def run_out_of_time() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1), stage.models.transaction() as savepoint:
                await savepoint.connection.execute(INSERT, {"name": "inner"})
                await work(stage)
        assert type(caught.value) is TimeoutError

    is_read = work in READS
    await outlive(stage, run_out_of_time, can_be_interrupted=is_read or not stage.is_sqlite)


@pytest.mark.parametrize("work", [*READS, *WRITES])
@pytest.mark.parametrize("is_inside", [True, False], ids=["group inside", "group around"])
async def test_a_task_group_with_a_failing_sibling(
    stage: Stage, is_inside: bool, work: Work
) -> None:
    async def fail() -> None:
        await stage.until_held()
        raise BlockError

    async def inside() -> None:
        async with stage.models.transaction(), asyncio.TaskGroup() as group:
            await stage.create("inner")
            group.create_task(fail())
            group.create_task(_as_coroutine(work, stage))

    async def store() -> None:
        async with stage.models.transaction():
            await stage.create("inner")
            await work(stage)

    async def around() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(store())

    seen: list[type[BaseException]] = []

    async def run() -> None:
        try:
            await (inside() if is_inside else around())
        except* BlockError as errors:
            seen.extend(type(error) for error in errors.exceptions)

    is_read = work in READS
    await outlive(stage, run, can_be_interrupted=is_read or not stage.is_sqlite)
    assert seen == [BlockError]


async def _as_coroutine(work: Work, stage: Stage) -> None:
    await work(stage)


def matrix() -> list[Child]:
    return [child for child in children_of(SAVEPOINT) if not child.is_raw]


@pytest.mark.parametrize("end", ["error", "timeout", "cancel", "sibling"])
@pytest.mark.parametrize("child", matrix(), ids=lambda child: child.name)
async def test_the_outer_transaction_outlives_a_child_of_its_savepoint(
    stage: Stage, child: Child, end: str
) -> None:
    async def run_savepoint() -> None:
        stage.watcher.release()  # the run holds by itself
        run = Run(stage, SAVEPOINT, child)
        await FAILING_ENDS[end](run)
        await run.settle()
        run.check_child()
        assert run.seconds < LONGEST

    await outlive(stage, run_savepoint, can_be_interrupted=child.can_be_interrupted(stage))


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
async def test_a_cancelled_statement_deep_inside(stage: Stage, depth: int) -> None:
    async def nest(level: int) -> None:
        async with stage.models.transaction():
            await stage.create(f"level {level}")
            if level < depth:
                with suppress(TimeoutError):
                    await nest(level + 1)
            else:
                stage.watcher.hold()
                async with asyncio.timeout(0.05):
                    await _own_read(stage)

    await nest(1)
    stage.watcher.release()
    await stage.check(*(f"level {level}" for level in range(1, depth)))


async def test_siblings_go_on_when_one_savepoint_is_cancelled(stage: Stage) -> None:
    async def store(name: str) -> None:
        async with stage.models.transaction():
            await stage.create(name)
            if name == "first":
                await _own_read(stage)

    async with stage.models.transaction():
        stage.watcher.hold()
        first = asyncio.create_task(store("first"))
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


@pytest.mark.parametrize("turns", range(6))
async def test_a_release_that_is_cut_short(stage: Stage, turns: int) -> None:
    async def store() -> None:
        async with stage.models.transaction():
            await stage.create("inner")
            is_about_to_end.set()

    async def cancel_at_release() -> None:
        task = asyncio.create_task(store())
        await is_about_to_end.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        outcomes.append(task.cancelled())

    is_about_to_end = asyncio.Event()
    outcomes: list[bool] = []
    stored = []
    with suppress(TransactionAborted):
        async with stage.models.transaction():
            await stage.create("outer")
            await cancel_at_release()
        stored = ["outer"] if outcomes == [True] else ["inner", "outer"]
    # Where it is not known whether the savepoint was released, nothing is committed.
    await stage.check(*stored)
