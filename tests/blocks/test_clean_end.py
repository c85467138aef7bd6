"""A block that ends well while a task started inside it is at work.

The end waits for the statement that is under way, never for a block, and commits. Newcomers get
TransactionClosed. Another task's block inside that is still open makes it a NestingError, and
nothing is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from starlette.responses import StreamingResponse

from asgi_dbconn import (
    ConnectionLost,
    NestingError,
    TransactionAborted,
    TransactionClosed,
)
from tests.blocks.children import CHILD_NAME, CHILDREN, Child, children_of, driver_of
from tests.blocks.ends import OWN_NAME, Run, end_by_return
from tests.blocks.kinds import KINDS, Kind, kinds_of
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import HOLD, INSERT, Stage, open_stage

PAUSE = 0.05
"""Seconds for which the end of a block is seen to wait."""
MATRIX = [
    pytest.param(kind, child, id=f"{kind.name}-{child.name}")
    for kind in kinds_of()
    for child in children_of(kind)
]
WAITS = [case for case in MATRIX if not case.values[1].opens_block]  # type: ignore[union-attr]
NESTS = [case for case in MATRIX if case.values[1].opens_block]  # type: ignore[union-attr]


async def play(stage: Stage, run: Run, end: Callable[[Run], Awaitable[None]]) -> None:
    """Run the block to its end where its body belongs to, and let the child end."""

    async def run_block() -> None:
        # The events of a run belong to the loop that it runs on.
        try:
            await end(run)
        finally:
            await run.settle()

    await run.kind.call(run_block)


async def expected_names(stage: Stage, run: Run, *, stored: bool) -> list[str]:
    """Return what shall be stored, and check it inside of the isolation if there is one."""
    names = [OWN_NAME] if stored and run.kind.stores else []
    if names and run.child is not None and run.child.stores:
        names.append(CHILD_NAME)
    if not run.kind.is_isolated:
        return names
    found = await stage.Item.query.order_by("name").values_list("name", flat=True)
    assert sorted(found) == sorted(names)
    return []


@pytest.mark.parametrize(("kind", "child"), WAITS)
async def test_the_end_waits_for_a_statement_and_commits(
    stage: Stage, kind: Kind, child: Child
) -> None:
    async with kind.isolate(stage):
        run = Run(stage, kind, child)

        async def release_later() -> None:
            asyncio.get_running_loop().call_later(PAUSE, stage.watcher.release)

        run.on_ending = release_later
        await play(stage, run, end_by_return)
        assert run.seconds >= PAUSE * 0.9
        error = run.child_error
        if child.reads_on:
            is_ours = child.needs is None
            refusals = TransactionClosed if is_ours else (TransactionClosed, SQLAlchemyError)
            assert isinstance(error, refusals), repr(error)
        else:
            assert error is None
        names = await expected_names(stage, run, stored=True)
    await stage.check(*names)


@pytest.mark.parametrize(("kind", "child"), NESTS)
async def test_an_open_inner_block_of_another_task_is_a_nesting_error(
    stage: Stage, kind: Kind, child: Child
) -> None:
    async with kind.isolate(stage):
        run = Run(stage, kind, child)

        async def release_later() -> None:
            asyncio.get_running_loop().call_later(PAUSE, stage.watcher.release)

        run.on_ending = release_later
        with pytest.raises(NestingError):
            await play(stage, run, end_by_return)
        assert type(run.child_error) is TransactionClosed
        names = await expected_names(stage, run, stored=False)
    await stage.check(*names)


@pytest.mark.parametrize("kind", kinds_of(isolated=False), ids=lambda kind: kind.name)
@pytest.mark.parametrize("child", ["joined connection", "joined session", "savepoint"])
async def test_an_inner_block_of_another_task_between_two_statements(
    stage: Stage, kind: Kind, child: str
) -> None:
    run = Run(stage, kind, CHILDREN[child])

    async def let_it_finish() -> None:
        stage.watcher.release()
        await run.pause.is_reached.wait()

    run.on_ending = let_it_finish
    with pytest.raises(NestingError):
        await play(stage, run, end_by_return)

    assert run.seconds < 1.0
    assert type(run.child_error) is TransactionClosed
    await stage.check()


async def test_an_inner_block_of_another_task_that_has_ended_is_committed(stage: Stage) -> None:
    async def store() -> None:
        async with stage.models.transaction():
            await stage.create("inner")

    async with stage.models.transaction():
        await asyncio.create_task(store())
    await stage.check("inner")


# -- those that come while the end waits


async def _verb(stage: Stage, connection: AsyncConnection) -> None:
    await stage.create("late")


async def _execute(stage: Stage, connection: AsyncConnection) -> None:
    await connection.execute(INSERT, {"name": "late"})


async def _stream(stage: Stage, connection: AsyncConnection) -> None:
    async with connection.stream(text("SELECT 1")):
        pytest.fail("the stream began")


async def _session_in_it(stage: Stage, connection: AsyncConnection) -> None:
    async with AsyncSession(connection) as session:
        await session.execute(INSERT, {"name": "late"})


async def _savepoint(stage: Stage, connection: AsyncConnection) -> None:
    async with stage.models.transaction():
        await stage.create("late")


async def _joined_session(stage: Stage, connection: AsyncConnection) -> None:
    async with stage.models.session() as session:
        await session.execute(INSERT, {"name": "late"})


async def _joined_connection(stage: Stage, connection: AsyncConnection) -> None:
    async with stage.models.connection() as joined:
        await joined.execute(INSERT, {"name": "late"})


@pytest.mark.parametrize(
    "newcomer",
    [_verb, _execute, _stream, _session_in_it, _savepoint, _joined_session, _joined_connection],
)
async def test_newcomers_are_refused_while_the_end_waits(
    stage: Stage, newcomer: Callable[[Stage, AsyncConnection], Awaitable[None]]
) -> None:
    body_is_over = asyncio.Event()

    async def come_late(connection: AsyncConnection) -> None:
        await body_is_over.wait()
        await newcomer(stage, connection)

    async def leave() -> None:
        async with stage.models.transaction() as transaction:
            stage.watcher.hold()
            tasks.append(asyncio.ensure_future(CHILDREN["verb"].work(stage, None, _NO_PAUSE)))
            tasks.append(asyncio.create_task(come_late(transaction.connection)))
            await stage.until_held()
            asyncio.get_running_loop().call_later(PAUSE, body_is_over.set)

    tasks: list[asyncio.Task[Any]] = []
    leaving = asyncio.create_task(leave())
    await body_is_over.wait()
    child, late = tasks
    with pytest.raises(TransactionClosed):
        await asyncio.wait_for(late, 2)
    assert not child.done()
    assert not leaving.done()
    stage.watcher.release()
    await leaving
    await child
    await stage.check(CHILD_NAME)


async def test_those_in_line_are_refused_and_the_others_are_stored(stage: Stage) -> None:
    tasks = []
    async with stage.models.transaction():
        stage.watcher.hold()
        tasks = [asyncio.create_task(stage.create(f"slow {number}")) for number in range(5)]
        await stage.until_held()
        asyncio.get_running_loop().call_later(PAUSE, stage.watcher.release)

    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes[1:]] == [TransactionClosed] * 4
    await stage.check("slow 0")


@pytest.mark.parametrize("turns", range(4))
async def test_tasks_that_nobody_awaits_are_stored_if_they_say_so(stage: Stage, turns: int) -> None:
    for number in range(5):
        async with stage.models.transaction():
            await stage.create(f"own {number}")
            task = asyncio.create_task(stage.create(f"child {number}"))
            for _ in range(turns):
                await asyncio.sleep(0)
        with suppress(TransactionClosed):
            await task
        assert f"own {number}" in stage.watcher.names()
        is_stored = f"child {number}" in stage.watcher.names()
        assert is_stored == (task.exception() is None)
    await stage.check(*stage.watcher.names())


# -- how long it waits


async def test_the_wait_is_bounded_by_the_query_timeout(
    database_url: str, other_process: OtherProcess
) -> None:
    async with open_stage(database_url, other_process, query_timeout=0.3) as stage:
        run = Run(stage, KINDS["transaction"], CHILDREN["verb"])
        with pytest.raises((ConnectionLost, TransactionAborted)):
            await play(stage, run, end_by_return)
        assert run.seconds < 0.3 + 2.0
        assert run.child_error is not None
        stage.watcher.release()
        await stage.check()


@pytest.mark.parametrize("kind", kinds_of(isolated=False), ids=lambda kind: kind.name)
async def test_the_wait_may_be_cancelled(stage: Stage, kind: Kind) -> None:
    run = Run(stage, kind, CHILDREN["verb"])
    is_over = asyncio.Event()

    async def mark() -> None:
        asyncio.get_running_loop().call_later(PAUSE, is_over.set)

    run.on_ending = mark
    leaving = asyncio.create_task(end_by_return(run))
    await is_over.wait()
    assert not leaving.done()
    leaving.cancel()
    await asyncio.wait({leaving}, timeout=3)
    assert leaving.cancelled()
    await run.settle()
    assert type(run.child_error) is TransactionClosed
    stage.watcher.release()
    await stage.check()


# -- ends by hand


async def _commit(handle: Any) -> None:
    await handle.commit()


async def _roll_back(handle: Any) -> None:
    await handle.rollback()


@pytest.mark.parametrize("end", [_commit, _roll_back])
@pytest.mark.parametrize("child", ["verb", "execute", "raw driver"])
@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_a_commit_by_hand_waits_for_a_statement(
    stage: Stage, kind: str, child: str, end: Callable[[Any], Awaitable[None]]
) -> None:
    async with getattr(stage.models, kind)() as handle:
        await stage.create(OWN_NAME)
        stage.watcher.hold()
        task = asyncio.ensure_future(CHILDREN[child].work(stage, handle, _NO_PAUSE))
        await stage.until_held()
        asyncio.get_running_loop().call_later(PAUSE, stage.watcher.release)
        await end(handle)
        assert stage.watcher.names() == ([OWN_NAME, CHILD_NAME] if end is _commit else [])
        await task
    await stage.check(*stage.watcher.names())


@pytest.mark.parametrize("child", ["verb", "execute", "raw driver"])
async def test_a_rollback_by_hand_waits_for_a_statement(stage: Stage, child: str) -> None:
    async with stage.models.transaction() as transaction:
        await stage.create(OWN_NAME)
        stage.watcher.hold()
        work = CHILDREN[child].work(stage, transaction.connection, _NO_PAUSE)
        task = asyncio.ensure_future(work)
        await stage.until_held()
        asyncio.get_running_loop().call_later(PAUSE, stage.watcher.release)
        await transaction.rollback()
        await task
        await stage.create("after")
    await stage.check("after")


async def test_a_driver_that_streams_keeps_nothing_open(postgres_stage: Stage) -> None:
    stage = postgres_stage

    async def read(connection: AsyncConnection) -> None:
        driver = await driver_of(connection)
        async with driver.transaction():
            async for _ in driver.cursor(f"{HOLD} UNION ALL SELECT 2", prefetch=1):
                await asyncio.sleep(0)

    async with stage.models.transaction() as transaction:
        await stage.create(OWN_NAME)
        stage.watcher.hold()
        task = asyncio.create_task(read(transaction.connection))
        await stage.until_held()
        asyncio.get_running_loop().call_later(PAUSE, stage.watcher.release)
    await asyncio.wait({task}, timeout=2)
    assert task.done()
    assert task.cancelled() is False
    task.exception()
    await stage.check(*stage.watcher.names())


# -- an application


@pytest.mark.parametrize("goes_away", [False, True])
async def test_a_streaming_answer_under_a_transaction(stage: Stage, goes_away: bool) -> None:
    for number in range(10):
        await stage.create(f"item {number}")
    before = stage.watcher.names()
    sent: list[Any] = []
    is_sent = asyncio.Event()

    async def rows() -> AsyncIterator[str]:
        async with stage.Item.query.stream(1) as items:
            async for item in items:
                yield item.name

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # The middleware of an application: every request is one transaction.
        async with stage.models.transaction():
            await stage.create("of the request")
            await StreamingResponse(rows())(scope, receive, send)

    async def receive() -> Any:
        await (is_sent.wait() if goes_away else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            is_sent.set()
            await asyncio.sleep(0)

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.1"}}
    with suppress(TransactionClosed):  # an answer that was left in the middle of its rows
        await asyncio.wait_for(app(scope, receive, send), 3)
    if not goes_away:
        before = [*before, "of the request"]
        assert len(sent) == 13
    names = stage.watcher.names()
    assert set(before) <= set(names)
    await stage.check(*names)


class _NoPause:
    async def wait(self) -> None: ...


_NO_PAUSE: Any = _NoPause()
