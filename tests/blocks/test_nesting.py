"""An outer block that its own task leaves before an inner one is an error, and stores nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from asgi_dbconn import NestingError, TransactionError
from tests.blocks.ends import BlockError
from tests.blocks.stage import Stage, registry_of

OUTER = ("transaction", "session", "connection")
INNER = ("transaction", "session", "connection")
LATE = (TransactionError, NestingError)
"""The error of an inner block whose work was rolled back with the outer one."""


@pytest.mark.parametrize("inner_name", INNER)
@pytest.mark.parametrize("outer_name", OUTER)
async def test_an_outer_block_left_first(stage: Stage, outer_name: str, inner_name: str) -> None:
    outer: Any = getattr(stage.models, outer_name)()
    await outer.__aenter__()
    await stage.create("outer")
    inner: Any = getattr(stage.models, inner_name)()
    await inner.__aenter__()
    await stage.create("inner")

    with pytest.raises(NestingError):
        await outer.__aexit__(None, None, None)
    assert stage.watcher.names() == []
    await stage.create("between")
    assert stage.watcher.names() == ["between"]
    with pytest.raises(LATE):
        await inner.__aexit__(None, None, None)
    await stage.create("after")

    await stage.check("after", "between")


@pytest.mark.parametrize("inner_name", INNER)
@pytest.mark.parametrize("outer_name", OUTER)
async def test_an_outer_block_left_first_by_an_error(
    stage: Stage, outer_name: str, inner_name: str
) -> None:
    outer: Any = getattr(stage.models, outer_name)()
    await outer.__aenter__()
    inner: Any = getattr(stage.models, inner_name)()
    await inner.__aenter__()
    await stage.create("inner")
    error = BlockError()

    assert not await outer.__aexit__(BlockError, error, None)
    assert not await inner.__aexit__(BlockError, error, None)

    await stage.check()


async def test_a_stack_that_is_closed_in_the_wrong_order(stage: Stage) -> None:
    async def use() -> None:
        async with AsyncExitStack() as late:
            async with AsyncExitStack() as early:
                await early.enter_async_context(stage.models.transaction())
                await stage.create("outer")
                await late.enter_async_context(stage.models.transaction())
                await stage.create("inner")

    with pytest.raises((NestingError, *LATE)) as caught:
        await use()
    assert isinstance(caught.value, NestingError) or isinstance(
        caught.value.__context__, NestingError
    )
    await stage.check()


async def test_a_savepoint_left_before_its_inner_one(stage: Stage) -> None:
    async with stage.models.transaction():
        await stage.create("outermost")
        outer: Any = stage.models.transaction()
        await outer.__aenter__()
        await stage.create("outer")
        inner: Any = stage.models.transaction()
        await inner.__aenter__()
        await stage.create("inner")
        with pytest.raises(NestingError):
            await outer.__aexit__(None, None, None)
        await stage.create("between")
        with pytest.raises(LATE):
            await inner.__aexit__(None, None, None)
        await stage.create("after")
    await stage.check("after", "between", "outermost")


async def test_three_levels_left_from_the_outside(stage: Stage) -> None:
    blocks: list[Any] = [stage.models.transaction() for _ in range(3)]
    for number, block in enumerate(blocks):
        await block.__aenter__()
        await stage.create(f"level {number}")
    with pytest.raises(NestingError):
        await blocks[0].__aexit__(None, None, None)
    for block in blocks[1:]:
        with pytest.raises(LATE):
            await block.__aexit__(None, None, None)
    await stage.create("after")
    await stage.check("after")


@pytest.mark.parametrize("name", OUTER)
async def test_an_open_stream_of_objects_is_left_first(stage: Stage, name: str) -> None:
    # A stream inside a scope is no block of its own: it ends with the scope.
    for number in range(3):
        await stage.create(f"item {number}")
    outer: Any = getattr(stage.models, name)()
    await outer.__aenter__()
    await stage.create("outer")
    stream: Any = stage.Item.query.stream(1)
    await stream.__aenter__()
    await anext(aiter(stream))
    await outer.__aexit__(None, None, None)
    await stream.__aexit__(None, None, None)
    await stage.check("item 0", "item 1", "item 2", "outer")


async def test_blocks_of_two_databases_may_be_left_in_any_order(stage: Stage) -> None:
    other, item = registry_of(stage.url, stage.watcher)
    async with other:
        first: Any = stage.models.connection()
        second: Any = other.connection()
        await first.__aenter__()
        await second.__aenter__()
        assert await stage.Item.query.count() == await item.query.count() == 0
        await first.__aexit__(None, None, None)
        await stage.create("first")
        await second.__aexit__(None, None, None)
    await stage.check("first")
