"""A block that a child task opened ends with the outer block, and what follows in it is refused.

It must not look like work of the child alone, which would be committed by itself.
"""

from __future__ import annotations

import asyncio

import pytest

from asgi_dbconn import TransactionClosed
from tests.blocks.ends import BlockError
from tests.blocks.stage import Stage

KINDS = ("transaction", "session", "connection")


@pytest.mark.parametrize("is_inside", [True, False], ids=["in its block", "after its block"])
@pytest.mark.parametrize("inner_name", KINDS)
@pytest.mark.parametrize("outer_name", KINDS)
async def test_a_query_of_a_child_whose_own_block_was_ended(
    stage: Stage, outer_name: str, inner_name: str, is_inside: bool
) -> None:
    is_open, is_over = asyncio.Event(), asyncio.Event()

    async def open_and_wait() -> None:
        async with getattr(stage.models, inner_name)():
            is_open.set()
            await is_over.wait()
            if is_inside:
                await stage.create("late")

    async def work() -> None:
        if is_inside:
            await open_and_wait()
            return
        with pytest.raises(TransactionClosed):
            await open_and_wait()
        await stage.create("late")

    tasks: list[asyncio.Task[None]] = []
    with pytest.raises(BlockError):
        async with getattr(stage.models, outer_name)():
            tasks.append(asyncio.create_task(work()))
            await is_open.wait()
            raise BlockError
    is_over.set()

    with pytest.raises(TransactionClosed):
        await tasks[0]
    await stage.check()
