"""The kinds of block, as a table: how each of them is opened, and what it hands to its body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tests.blocks.stage import Stage

__all__ = ["KINDS", "Body", "Handle", "Kind", "call_elsewhere", "kinds_of"]

T = TypeVar("T")
_THOROUGH: Final = {
    *("transaction", "savepoint", "session", "connection"),
    *("isolated transaction", "transaction elsewhere"),
}
Handle = AsyncConnection | AsyncSession | None
"""What the block hands out; None if that is neither, or cannot be used from the body's loop."""
Body = Callable[[Handle], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """One kind of block."""

    name: str
    run: Callable[[Stage, Body], Awaitable[object]]
    """Run the body inside such a block."""
    handle: type[Any] | None
    """The type of what the body gets."""
    is_isolated: bool = False
    """Whether ``models.rollback()`` is around it."""
    is_elsewhere: bool = False
    """Whether the body runs on another event loop than the connection."""
    stores: bool = True
    """Whether a clean end commits."""

    @property
    def is_thorough(self) -> bool:
        """Return whether every way to use it is tried; of the others, the most different ones."""
        return self.name in _THOROUGH

    def isolate(self, stage: Stage) -> AbstractAsyncContextManager[None]:
        """Return what has to be around the block, on the loop of the test."""
        return stage.models.rollback() if self.is_isolated else nullcontext()

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await ``work()`` on the loop that the body belongs to."""
        return await (call_elsewhere(work) if self.is_elsewhere else work())


async def call_elsewhere(work: Callable[[], Awaitable[T]]) -> T:
    """Await ``work()`` on an event loop of its own, in a thread of its own."""

    async def main() -> T:
        return await work()

    return await asyncio.to_thread(asyncio.run, main())


async def _transaction(stage: Stage, body: Body) -> None:
    async with stage.models.transaction() as transaction:
        await body(transaction.connection)


async def _savepoint(stage: Stage, body: Body) -> None:
    async with stage.models.transaction(), stage.models.transaction() as savepoint:
        await body(savepoint.connection)


async def _session(stage: Stage, body: Body) -> None:
    async with stage.models.session() as session:
        await body(session)


async def _connection(stage: Stage, body: Body) -> None:
    async with stage.models.connection() as connection:
        await body(connection)


async def _joined_connection(stage: Stage, body: Body) -> None:
    async with stage.models.transaction(), stage.models.connection() as connection:
        await body(connection)


async def _joined_session(stage: Stage, body: Body) -> None:
    async with stage.models.transaction(), stage.models.session() as session:
        await body(session)


async def _savepoint_in_session(stage: Stage, body: Body) -> None:
    async with stage.models.session(), stage.models.transaction() as savepoint:
        await body(savepoint.connection)


async def _run_transaction(stage: Stage, body: Body) -> None:
    await stage.models.run_transaction(lambda: body(None))


async def _force_rollback(stage: Stage, body: Body) -> None:
    async with stage.models.transaction(force_rollback=True) as transaction:
        await body(transaction.connection)


async def _stream(stage: Stage, body: Body) -> None:
    async with stage.Item.query.stream(1):
        await body(None)


async def _transaction_elsewhere(stage: Stage, body: Body) -> None:
    async with stage.models.transaction():
        await body(None)


async def _savepoint_elsewhere(stage: Stage, body: Body) -> None:
    async with stage.models.transaction(), stage.models.transaction():
        await body(None)


_ALL: Final = (
    Kind("transaction", _transaction, AsyncConnection),
    Kind("savepoint", _savepoint, AsyncConnection),
    Kind("session", _session, AsyncSession),
    Kind("connection", _connection, AsyncConnection),
    Kind("joined connection", _joined_connection, AsyncConnection),
    Kind("joined session", _joined_session, AsyncSession),
    Kind("savepoint in session", _savepoint_in_session, AsyncConnection),
    Kind("run_transaction", _run_transaction, None),
    Kind("force_rollback", _force_rollback, AsyncConnection, stores=False),
    Kind("stream", _stream, None),
    Kind("isolated transaction", _transaction, AsyncConnection, is_isolated=True),
    Kind("isolated savepoint", _savepoint, AsyncConnection, is_isolated=True),
    Kind("isolated session", _session, AsyncSession, is_isolated=True),
    Kind("isolated connection", _connection, AsyncConnection, is_isolated=True),
    Kind("transaction elsewhere", _transaction_elsewhere, None, True, True),
    Kind("savepoint elsewhere", _savepoint_elsewhere, None, True, True),
)
KINDS: Final = {kind.name: kind for kind in _ALL}


def kinds_of(handle: type[Any] | None = None, *, isolated: bool = True) -> list[Kind]:
    """Return the kinds that hand out a ``handle``; without one, all."""
    return [
        kind
        for kind in _ALL
        if handle in (None, kind.handle) and (isolated or not kind.is_isolated)
    ]
