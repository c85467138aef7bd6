"""What a task does that was started inside a block, as a table: each way to use the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tests.blocks.kinds import Handle, Kind
from tests.blocks.stage import HOLD, INSERT, Stage

__all__ = [
    "CHILDREN",
    "CHILD_NAME",
    "Child",
    "Pause",
    "children_of",
    "connection_of",
    "driver_of",
]

CHILD_NAME: Final = "slow child"
"""The name of what a child stores; its INSERT waits while the watcher holds it."""
_ROWS = text(f"{HOLD} UNION ALL SELECT 2 UNION ALL SELECT 3")


class Pause:
    """The place in its own block where a child waits, once its statement is done."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.is_over = asyncio.Event()

    async def wait(self) -> None:
        self.is_reached.set()
        await self.is_over.wait()


@dataclass(frozen=True)
class Child:
    """One way to use the connection of a block from another task."""

    name: str
    work: Callable[[Stage, Handle, Pause], Awaitable[object]]
    needs: type[Any] | None = None
    """The type of the handle that it needs; AsyncConnection is had from a session, too."""
    opens_block: bool = False
    stores: bool = True
    """Whether it has stored an item when its statement has ended."""
    reads_on: bool = False
    """Whether it asks for more rows after its first statement."""
    is_raw: bool = False
    """Whether it goes round SQLAlchemy, and so gets the driver's own errors."""

    def can_be_interrupted(self, stage: Stage) -> bool:
        """Return whether its statement can be cancelled, and the transaction go on.

        SQLite rolls a whole transaction back if a statement that writes is interrupted.
        """
        return not (stage.is_sqlite and self.stores)

    def fits(self, kind: Kind) -> bool:
        if self.needs is None:
            return not (kind.is_elsewhere and self.name.startswith("joined"))
        if self.needs is AsyncConnection:
            return kind.handle is not None
        return kind.handle is self.needs


async def connection_of(handle: Handle) -> AsyncConnection:
    if isinstance(handle, AsyncSession):
        return await handle.connection()
    return cast("AsyncConnection", handle)


async def driver_of(handle: Handle) -> Any:
    """Return the connection of asyncpg or aiosqlite."""
    connection = await connection_of(handle)
    return (await connection.get_raw_connection()).driver_connection


async def _verb(stage: Stage, handle: Handle, pause: Pause) -> None:
    await stage.create(CHILD_NAME)


async def _reading_verb(stage: Stage, handle: Handle, pause: Pause) -> None:
    await stage.Item.query.filter(text(f"({HOLD}) > 0")).all()


async def _verb_of_two(stage: Stage, handle: Handle, pause: Pause) -> None:
    await stage.Item.query.get_or_create(name=CHILD_NAME)


async def _joined_connection(stage: Stage, handle: Handle, pause: Pause) -> None:
    async with stage.models.connection() as connection:
        await connection.execute(INSERT, {"name": CHILD_NAME})
        await pause.wait()


async def _joined_session(stage: Stage, handle: Handle, pause: Pause) -> None:
    async with stage.models.session() as session:
        session.add(stage.Item(name=CHILD_NAME))
        await session.flush()
        await pause.wait()


async def _savepoint(stage: Stage, handle: Handle, pause: Pause) -> None:
    async with stage.models.transaction():
        await stage.create(CHILD_NAME)
        await pause.wait()


async def _stream(stage: Stage, handle: Handle, pause: Pause) -> None:
    async with stage.Item.query.filter(text(f"({HOLD}) > 0")).stream(1) as items:
        async for _ in items:
            await pause.wait()


async def _execute(stage: Stage, handle: Handle, pause: Pause) -> None:
    connection = await connection_of(handle)
    await connection.execute(INSERT, {"name": CHILD_NAME})


async def _run_sync(stage: Stage, handle: Handle, pause: Pause) -> None:
    connection = await connection_of(handle)
    await connection.run_sync(lambda sync: sync.execute(INSERT, {"name": CHILD_NAME}))


async def _execute_stream(stage: Stage, handle: Handle, pause: Pause) -> None:
    connection = await connection_of(handle)
    async with connection.stream(_ROWS, execution_options={"yield_per": 1}) as rows:
        async for _ in rows:
            await pause.wait()


async def _session_execute(stage: Stage, handle: Handle, pause: Pause) -> None:
    await cast("AsyncSession", handle).execute(INSERT, {"name": CHILD_NAME})


async def _raw_driver(stage: Stage, handle: Handle, pause: Pause) -> None:
    driver = await driver_of(handle)
    await driver.execute(f"INSERT INTO items (name) VALUES ('{CHILD_NAME}')")


_ALL: Final = (
    Child("verb", _verb),
    Child("reading verb", _reading_verb, stores=False),
    Child("verb of two statements", _verb_of_two),
    Child("joined connection", _joined_connection, opens_block=True),
    Child("joined session", _joined_session, opens_block=True),
    Child("savepoint", _savepoint, opens_block=True),
    Child("stream", _stream, stores=False, reads_on=True),
    Child("execute", _execute, AsyncConnection),
    Child("run_sync", _run_sync, AsyncConnection),
    Child("execute stream", _execute_stream, AsyncConnection, stores=False, reads_on=True),
    Child("session execute", _session_execute, AsyncSession),
    Child("raw driver", _raw_driver, AsyncConnection, is_raw=True),
)
CHILDREN: Final = {child.name: child for child in _ALL}


_TELLING: Final = {"verb", "savepoint", "stream", "execute"}


def children_of(kind: Kind) -> list[Child]:
    """Return the children that can be started in a block of that kind."""
    return [
        child for child in _ALL if child.fits(kind) and (kind.is_thorough or child.name in _TELLING)
    ]
