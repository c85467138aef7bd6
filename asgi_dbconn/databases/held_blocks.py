"""A transaction block that is open on one event loop and used from another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from asgi_dbconn.databases.crossing import Crossing
from asgi_dbconn.databases.transactions import Transaction, scope_of

__all__ = ["held_open"]

Block = Callable[[], AbstractAsyncContextManager[Transaction]]


@asynccontextmanager
async def held_open(crossing: Crossing, block: Block) -> AsyncIterator[Transaction]:
    """``block``, entered and left on the other loop, while what is inside happens on this one."""
    held = _Held(block)
    transaction = await crossing.do(held.enter)
    keep = False
    try:
        with scope_of(transaction).current():
            yield transaction
        keep = True
    finally:
        await crossing.do(partial(held.leave, keep=keep))


class _TakenBack(Exception):
    """The block ended in an error, which is none of the other loop's business."""


class _Held:
    """Entered and left in one task, whose scope is the block's."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._keep: asyncio.Future[bool]
        self._task: asyncio.Task[None]

    async def enter(self) -> Transaction:
        loop = asyncio.get_running_loop()
        self._keep = loop.create_future()
        entered: asyncio.Future[Transaction] = loop.create_future()
        self._task = asyncio.create_task(
            self._hold(entered), name="holding a transaction open for another loop"
        )
        try:
            either: set[asyncio.Future[Any]] = {self._task, entered}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise
        if not entered.done():
            await self._task  # raises
        return entered.result()

    async def leave(self, *, keep: bool) -> None:
        """Raises what the block's own end raises, as a failed commit."""
        if not self._keep.done():
            self._keep.set_result(keep)
        await self._task

    async def _hold(self, entered: asyncio.Future[Transaction]) -> None:
        try:
            async with self._block() as transaction:
                entered.set_result(transaction)
                if not await self._keep:
                    raise _TakenBack
        except _TakenBack:
            return
