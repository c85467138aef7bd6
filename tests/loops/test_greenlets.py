"""Inside of SQLAlchemy's greenlets the running loop does the work; and drivers everywhere."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from asgi_dbconn import RunSyncTimeout, run_sync
from asgi_dbconn.loops.default_loop import Environment
from tests.loops.situations import LoopFactory, Place, forever, in_threads, open_loop, run

colour: ContextVar[str] = ContextVar("colour", default="none")


async def here() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_the_running_loop_does_the_work_and_goes_on_meanwhile(factory: LoopFactory) -> None:
    """Scenario 49."""
    ticked = asyncio.Event()

    async def tick() -> None:
        while True:
            ticked.set()
            await asyncio.sleep(0)

    async def work() -> tuple[Any, Any]:
        colour.set("green")
        ticked.clear()
        await ticked.wait()
        return asyncio.get_running_loop(), asyncio.current_task()

    def sync_code() -> tuple[Any, Any]:
        return run_sync(work())

    async def outer() -> None:
        ticking = asyncio.create_task(tick())
        found = await greenlet_spawn(sync_code)
        assert found == (asyncio.get_running_loop(), asyncio.current_task())
        assert colour.get() == "green"
        ticking.cancel()

    run(outer(), factory)


def test_it_awaits_its_own_futures_there(factory: LoopFactory) -> None:
    """What would be a deadlock anywhere else."""

    async def outer() -> None:
        task = asyncio.create_task(here())
        assert await greenlet_spawn(run_sync, task) is asyncio.get_running_loop()

    run(outer(), factory)


def test_a_timeout_counts_there_too(factory: LoopFactory) -> None:
    async def own_timeout() -> None:
        raise TimeoutError("its own")

    def sync_code() -> None:
        with pytest.raises(RunSyncTimeout):
            run_sync(forever(), 0.01)
        with pytest.raises(RunSyncTimeout):
            run_sync(forever(), 0)
        with pytest.raises(TimeoutError, match="its own") as caught:
            run_sync(own_timeout(), 30)
        assert not isinstance(caught.value, RunSyncTimeout)
        assert run_sync(asyncio.sleep(0, "in time"), 30) == "in time"

    async def outer() -> None:
        await greenlet_spawn(sync_code)

    run(outer(), factory)


def test_a_loop_driven_inside_of_a_greenlet_is_not_left_in_the_middle(
    factory: LoopFactory,
) -> None:
    """The greenlet runs that loop, so it cannot wait for the outer one as well."""

    async def inner() -> Any:
        return run_sync(here()), asyncio.get_running_loop()

    def sync_code(loop: Any) -> None:
        below, found = run_sync(inner(), loop=loop)
        assert found is loop
        assert below not in {loop, outer_loop[0]}

    outer_loop: list[Any] = []

    async def outer() -> None:
        outer_loop.append(asyncio.get_running_loop())
        with open_loop(factory) as loop:
            await greenlet_spawn(sync_code, loop)

    run(outer(), factory)


def test_a_driver_works_in_every_place(place: Place, tmp_path: Path) -> None:
    """Scenario 44."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'test.sqlite'}"

    async def query() -> Any:
        engine = create_async_engine(url)
        try:
            async with engine.connect() as connection:
                return (await connection.execute(text("SELECT 7"))).scalar_one()
        finally:
            await engine.dispose()

    assert place.run(query) == 7


def test_connections_stay_usable_on_the_loop_of_a_block(tmp_path: Path) -> None:
    """Scenario 44. One engine, used by a dozen threads."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'test.sqlite'}")

    async def query(number: int) -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(text(f"SELECT {number}"))).scalar_one()

    with Environment.choose() as environment:
        assert run_sync(query(1)) == 1
        assert environment.managed is not None
        environment.managed.add_cleanup(engine.dispose)
        assert in_threads(12, lambda number: run_sync(query(number))) == list(range(12))
