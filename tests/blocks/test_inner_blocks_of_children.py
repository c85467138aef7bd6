"""A block that a child task opened ends with the outer block, and what follows in it is refused.

It must not look like work of the child alone, which would be committed by itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_dbconn import TransactionClosed
from tests.blocks.ends import BlockError
from tests.blocks.stage import Stage

KINDS = ("transaction", "session", "connection")


@pytest.mark.parametrize("inner_name", KINDS)
@pytest.mark.parametrize("outer_name", KINDS)
async def test_a_query_in_the_block_of_the_child(
    stage: Stage, outer_name: str, inner_name: str
) -> None:
    is_inside, is_over = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with getattr(stage.models, inner_name)():
            is_inside.set()
            await is_over.wait()
            await stage.create("late")

    tasks: list[Any] = []
    with pytest.raises(BlockError):
        async with getattr(stage.models, outer_name)():
            tasks.append(asyncio.create_task(work()))
            await is_inside.wait()
            raise BlockError
    is_over.set()

    with pytest.raises(TransactionClosed):
        await tasks[0]
    await stage.check()


@pytest.mark.parametrize("inner_name", KINDS)
@pytest.mark.parametrize("outer_name", KINDS)
async def test_a_query_after_the_block_of_the_child(
    stage: Stage, outer_name: str, inner_name: str
) -> None:
    is_inside, is_over = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        with pytest.raises(TransactionClosed):
            async with getattr(stage.models, inner_name)():
                is_inside.set()
                await is_over.wait()
        await stage.create("late")

    tasks: list[Any] = []
    with pytest.raises(BlockError):
        async with getattr(stage.models, outer_name)():
            tasks.append(asyncio.create_task(work()))
            await is_inside.wait()
            raise BlockError
    is_over.set()

    with pytest.raises(TransactionClosed):
        await tasks[0]
    await stage.check()
