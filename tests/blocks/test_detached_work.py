"""The way out of a scope: work that shall not be a part of the block it was started in.

It keeps every other context variable and the schema, and stays isolated where a test is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import pytest
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse

import asgi_dbconn
from tests.blocks.ends import BlockError
from tests.blocks.stage import Stage, registry_of

request_id: ContextVar[str] = ContextVar("request_id", default="none")
KINDS = ("transaction", "session", "connection")


def outside_scopes() -> Any:
    return asgi_dbconn.outside_scopes()  # type: ignore[attr-defined,unused-ignore]


F = TypeVar("F", bound=Callable[..., Any])


def decorated() -> Callable[[F], F]:
    return cast("Callable[[F], F]", outside_scopes())


def open_block(stage: Stage, kind: str) -> Any:
    """Open a block that does not hold the write lock: on SQLite it would keep others from it."""
    if kind == "transaction" and stage.is_sqlite:
        return stage.models.transaction(readonly=True)
    return getattr(stage.models, kind)()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_plain_await(stage: Stage, kind: str) -> None:
    with pytest.raises(BlockError):
        async with open_block(stage, kind):
            assert await stage.Item.query.count() == 0
            with outside_scopes():
                await stage.create("log")
            assert stage.watcher.names() == ["log"]
            raise BlockError
    await stage.check("log")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_task_that_outlives_the_block(stage: Stage, kind: str) -> None:
    is_over = asyncio.Event()

    async def work() -> None:
        await is_over.wait()
        await stage.create("background")
        async with stage.models.transaction():
            await stage.create("in a transaction of its own")

    async with open_block(stage, kind):
        with outside_scopes():
            task = asyncio.create_task(work())
    is_over.set()
    await task
    await stage.check("background", "in a transaction of its own")


async def test_a_task_that_runs_beside_the_block(stage: Stage) -> None:
    async with open_block(stage, "transaction"):
        with outside_scopes():
            task = asyncio.create_task(stage.create("background"))
        await task
        assert stage.watcher.names() == ["background"]
    await stage.check("background")


async def test_a_task_group(stage: Stage) -> None:
    async with open_block(stage, "connection"):
        with outside_scopes():
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(stage.create(f"item {number}"))
        assert len(stage.watcher.names()) == 3
    await stage.check("item 0", "item 1", "item 2")


async def test_the_block_goes_on_as_before(postgres_stage: Stage) -> None:
    stage = postgres_stage
    with pytest.raises(BlockError):
        async with stage.models.transaction():
            await stage.create("inside")
            with outside_scopes():
                assert await stage.Item.query.count() == 0
                async with stage.models.transaction():
                    await stage.create("outside")
                with outside_scopes():
                    await stage.create("farther outside")
                with pytest.raises(BlockError):
                    async with stage.models.transaction():
                        await stage.create("gone")
                        raise BlockError
            assert await stage.Item.query.count() == 3
            await stage.create("more inside")
            raise BlockError
    await stage.check("farther outside", "outside")


async def test_an_error_restores_the_scope(postgres_stage: Stage) -> None:
    async with postgres_stage.models.transaction() as transaction:
        with pytest.raises(BlockError), outside_scopes():
            raise BlockError
        await postgres_stage.create("inside")
        await transaction.rollback()
    await postgres_stage.check()


async def test_one_way_out_for_tasks_beside_each_other(postgres_stage: Stage) -> None:
    stage, way_out = postgres_stage, outside_scopes()
    first_is_out, second_is_out, first_is_back = (asyncio.Event() for _ in range(3))

    async def first() -> None:
        async with stage.models.transaction():
            with way_out:
                first_is_out.set()
                await second_is_out.wait()
            first_is_back.set()
            await stage.create("first")
            raise BlockError

    async def second() -> None:
        await first_is_out.wait()
        with way_out:
            second_is_out.set()
            await first_is_back.wait()
            await stage.create("second")
        await stage.create("after the second")

    outcomes = await asyncio.gather(first(), second(), return_exceptions=True)
    assert isinstance(outcomes[0], BlockError)
    assert outcomes[1] is None
    await stage.check("after the second", "second")


async def test_other_context_variables_are_kept(stage: Stage) -> None:
    async def read() -> str:
        return request_id.get()

    token = request_id.set("42")
    async with open_block(stage, "connection"):
        with outside_scopes():
            assert await asyncio.create_task(read()) == "42"
            request_id.set("43")
        assert request_id.get() == "43"
    request_id.reset(token)


async def test_the_schema_is_kept(postgres_stage: Stage) -> None:
    stage = postgres_stage
    stage.postgres.execute(
        "CREATE SCHEMA tenant; CREATE TABLE tenant.items (LIKE public.items INCLUDING ALL)"
    )
    with stage.models.with_schema("tenant"):
        async with stage.models.transaction():
            with outside_scopes():
                assert stage.models.current_schema() == "tenant"
                await stage.create("log")
                task = asyncio.create_task(stage.create("background"))
            await task
    rows = stage.postgres.fetch("SELECT name FROM tenant.items ORDER BY 1")
    assert [row[0] for row in rows] == ["background", "log"]
    await stage.check()


async def test_it_stays_isolated(stage: Stage) -> None:
    async with stage.models.rollback():
        async with stage.models.session():
            assert await stage.Item.query.count() == 0
        is_over = asyncio.Event()

        async def work() -> None:
            await is_over.wait()
            await stage.create("background")

        async with stage.models.transaction():
            with outside_scopes():
                task = asyncio.create_task(work())
            await stage.create("inside")
        is_over.set()
        await task
        assert await stage.Item.query.count() == 2
    assert stage.watcher.names() == []
    await stage.check()


async def test_a_plain_await_where_there_is_one_connection_only(stage: Stage) -> None:
    # An isolated database has one connection, and it is in the hands of the block.
    async with stage.models.rollback():
        async with stage.models.transaction():
            await stage.create("inside")
            with outside_scopes():
                await stage.create("log")
                async with stage.models.transaction():
                    await stage.create("in a transaction of its own")
        assert await stage.Item.query.count() == 3
    await stage.check()


async def test_all_databases_are_left(stage: Stage) -> None:
    other, item = registry_of(stage.url, stage.watcher)
    async with other:
        async with open_block(stage, "connection"), other.connection():
            with outside_scopes():
                await stage.create("first")
                await item.query.create(name="second")
                assert stage.watcher.names() == ["first", "second"]
    await stage.check("first", "second")


async def test_it_decorates_async_functions(stage: Stage) -> None:
    @decorated()
    async def log(name: str) -> str:
        """Write to the log."""
        await asyncio.sleep(0)
        await stage.create(name)
        return request_id.get()

    assert log.__name__ == "log"
    with pytest.raises(BlockError):
        async with open_block(stage, "connection"):
            assert await stage.Item.query.count() == 0
            assert await log("one") == "none"
            await asyncio.gather(log("two"), log("three"))
            raise BlockError
    await stage.check("one", "three", "two")


async def test_a_background_task_under_a_transaction(stage: Stage) -> None:
    @decorated()
    async def log(name: str) -> None:
        await stage.create(name)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        response = PlainTextResponse("ok", background=BackgroundTask(log, "background"))
        await response(scope, receive, send)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None: ...

    with pytest.raises(BlockError):
        async with open_block(stage, "transaction"):
            await answer({"type": "http"}, receive, send)
            raise BlockError
    await stage.check("background")


async def test_outside_of_every_scope_it_changes_nothing(stage: Stage) -> None:
    with outside_scopes():
        await stage.create("one")
        async with stage.models.transaction():
            await stage.create("two")
    await stage.check("one", "two")


async def test_one_way_out_may_be_used_again(stage: Stage) -> None:
    way_out = outside_scopes()
    async with open_block(stage, "connection"):
        for number in range(2):
            with way_out:
                await stage.create(f"item {number}")
                with way_out:
                    await stage.create(f"more {number}")
    await stage.check("item 0", "item 1", "more 0", "more 1")
