"""Tasks that meet on one connection: as its transaction begins, and when it is given up or ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from asgi_dbconn import TransactionAborted, TransactionClosed
from tests.blocks.ends import BlockError
from tests.blocks.stage import HOLD, INSERT, Stage


async def _verb(stage: Stage) -> None:
    await stage.create("child")


async def _savepoint(stage: Stage) -> None:
    async with stage.models.transaction():
        await stage.create("child")


async def _session(stage: Stage) -> None:
    async with stage.models.session() as session:
        await session.execute(INSERT, {"name": "child"})


async def _plain_session(stage: Stage) -> None:
    async with stage.models.connection() as connection, AsyncSession(connection) as session:
        await session.execute(INSERT, {"name": "child"})
        await session.commit()


async def _stream(stage: Stage) -> None:
    async with stage.Item.query.stream(1) as items:
        assert {item.name async for item in items} <= {"own"}
    await stage.create("child")


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("work", [_verb, _savepoint, _session, _plain_session, _stream])
async def test_work_beside_the_first_statement_of_the_handle(
    stage: Stage, work: Callable[[Stage], Awaitable[None]], turns: int
) -> None:
    async def begin_later() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await work(stage)

    async with stage.models.connection() as connection:
        task = asyncio.create_task(begin_later())
        await connection.execute(INSERT, {"name": "own"})
        await task
    await stage.check("child", "own")


async def fail(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise BlockError


async def test_tasks_that_are_cancelled_when_their_block_ends(stage: Stage) -> None:
    async def store_in_a_group(name: str, turns: int, tasks: list[asyncio.Task[object]]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(turns))
            tasks.append(group.create_task(stage.create(name)))

    ended_otherwise = []
    for number in range(60):
        tasks: list[asyncio.Task[object]] = []

        with suppress(BlockError, ExceptionGroup):
            async with stage.models.session():
                family = store_in_a_group(f"{number}", number % 9, tasks)
                await asyncio.gather(fail(number % 7), family)
        await asyncio.wait(tasks, timeout=2)
        task = tasks[0]
        if task.cancelling() and not task.cancelled():
            ended_otherwise.append(task.exception())
    assert not [error for error in ended_otherwise if isinstance(error, TransactionClosed)]
    await stage.check()


@pytest.mark.parametrize("turns", range(1, 6))
@pytest.mark.parametrize("work", ["verb", "execute", "session.execute", "stream"])
async def test_work_beside_a_task_that_is_cancelled_twice(
    stage: Stage, work: str, turns: int
) -> None:
    # The connection is given up with its statement, and what waits for its turn is of the same
    # transaction.
    async def store() -> None:
        async with stage.models.session() as session:
            connection = await session.connection()
            first = asyncio.create_task(connection.execute(text(HOLD)))
            await stage.until_held()
            waiting = {
                "verb": lambda: stage.create("late"),
                "execute": lambda: connection.execute(INSERT, {"name": "late"}),
                "session.execute": lambda: session.execute(INSERT, {"name": "late"}),
                "stream": read,
            }[work]()
            second = asyncio.ensure_future(waiting)
            await asyncio.sleep(0)
            first.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait({first, second}, timeout=3)
            assert first.cancelled()
            await second

    async def read() -> None:
        async with stage.Item.query.stream(1) as items:
            assert [item async for item in items] == []

    stage.watcher.hold()
    with pytest.raises(TransactionAborted):
        await store()
    stage.watcher.release()
    await stage.check()


@pytest.mark.parametrize("work", ["verb", "session.execute"])
async def test_a_session_is_left_while_a_child_begins_in_it(stage: Stage, work: str) -> None:
    async def leave(before: int) -> None:
        async with stage.models.session() as session:
            child: Any = (
                stage.create("child")
                if work == "verb"
                else session.execute(INSERT, {"name": "child"})
            )
            tasks.append(asyncio.ensure_future(child))
            for _ in range(before):
                await asyncio.sleep(0)
            await asyncio.Event().wait()

    tasks: list[asyncio.Future[Any]] = []
    for number in range(60):
        before, after, again = number % 4, number // 4 % 5, number // 20
        leaving = asyncio.create_task(leave(before))
        for _ in range(after + 1):
            await asyncio.sleep(0)
        leaving.cancel()
        for _ in range(again):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving, *tasks}, timeout=3)
        assert leaving.cancelled(), leaving.exception()
        for task in tasks:
            error = task.exception()
            assert error is None or type(error) is TransactionClosed, error
        tasks.clear()
    await stage.check()
