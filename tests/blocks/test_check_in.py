"""A connection that comes back to the pool is proved clean before anybody else gets it.

What its user did by the driver's own means, SQLAlchemy does not know. The next request is stored
all the same, the pool counts the event, and the log names the task once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.blocks.children import driver_of
from tests.blocks.ends import BlockError
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import HOLD, INSERT, Stage, open_stage
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until_async

SECRET = "INSERT INTO items (name) VALUES ('spoiler')"
Spoil = Callable[[Stage, Any], Awaitable[object]]
"""Take the connection; what is returned stays alive for the rest of the test."""


async def _raw_begin(stage: Stage, connection: Any) -> None:
    driver = await driver_of(connection)
    await driver.execute("BEGIN")
    await driver.execute(SECRET)


async def _raw_begin_of_a_reader(stage: Stage, connection: Any) -> None:
    driver = await driver_of(connection)
    await driver.execute("BEGIN")
    await driver.execute("SELECT 1")


async def _begin_in_autocommit(stage: Stage, connection: Any) -> None:
    await connection.execution_options(isolation_level="AUTOCOMMIT")
    await connection.execute(text("BEGIN"))
    await connection.execute(text(SECRET))


async def _failed_transaction(stage: Stage, connection: Any) -> None:
    driver = await driver_of(connection)
    await driver.execute("BEGIN")
    with suppress(Exception):
        await driver.execute("SELECT nothing FROM nowhere")


async def _transaction_of_the_driver(stage: Stage, connection: Any) -> object:
    driver = await driver_of(connection)
    transaction = driver.transaction()
    await transaction.start()
    await driver.execute(SECRET)
    return transaction


async def _transaction_only_the_driver_believes_in(stage: Stage, connection: Any) -> object:
    transaction = await _transaction_of_the_driver(stage, connection)
    await (await driver_of(connection)).execute("ROLLBACK")
    return transaction


async def _open_generator_of_the_driver(stage: Stage, connection: Any) -> object:
    driver = await driver_of(connection)

    async def rows() -> AsyncGenerator[object, None]:
        async with driver.transaction():
            async for row in driver.cursor("SELECT generate_series(1, 1000)", prefetch=10):
                yield row

    generator = rows()
    stage.generators.append(generator)
    await anext(generator)
    return generator


async def _open_cursor(stage: Stage, connection: Any) -> object:
    driver = await driver_of(connection)
    cursor = await driver.execute("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT n FROM items")
    await cursor.fetchone()
    return cursor


async def _open_cursor_in_a_transaction(stage: Stage, connection: Any) -> object:
    await _raw_begin(stage, connection)
    return await _open_cursor(stage, connection)


POSTGRES: tuple[Spoil, ...] = (
    _raw_begin,
    _raw_begin_of_a_reader,
    _begin_in_autocommit,
    _failed_transaction,
    _transaction_of_the_driver,
    _transaction_only_the_driver_believes_in,
    _open_generator_of_the_driver,
)
SQLITE: tuple[Spoil, ...] = (
    _raw_begin,
    _raw_begin_of_a_reader,
    _open_cursor,
    _open_cursor_in_a_transaction,
)
DOORS: dict[str, Callable[[Stage], Any]] = {
    "connection": lambda stage: stage.models.connection(),
    "engine": lambda stage: stage.models.database.engine.connect(),
}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name.startswith("asgi_dbconn")]
    return [record.getMessage() for record in records]


async def spoil(stage: Stage, door: str, how: Spoil, *, fails: bool = False) -> object:
    """Spoil a connection in a task of its own, and give it back."""

    async def run() -> object:
        async with DOORS[door](stage) as connection:
            kept = await how(stage, connection)
            if fails:
                raise BlockError
        return kept

    task = asyncio.create_task(run(), name="the careless report")
    with suppress(BlockError):
        return await task
    return None


def cases() -> list[Any]:
    return [
        *(pytest.param("postgresql", how, id=f"postgresql{how.__name__}") for how in POSTGRES),
        *(pytest.param("sqlite", how, id=f"sqlite{how.__name__}") for how in SQLITE),
    ]


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("database_url", "how"), cases(), indirect=["database_url"])
async def test_the_next_requests_are_stored(
    stage: Stage, door: str, how: Spoil, fails: bool
) -> None:
    kept = await spoil(stage, door, how, fails=fails)
    await stage.check()
    del kept


@pytest.mark.parametrize(
    "how", [case.values[1] for case in cases() if case.values[0] == "postgresql"]
)
async def test_it_is_counted_and_said_once(
    postgres_stage: Stage, how: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    stage = postgres_stage
    caplog.set_level(logging.WARNING, logger="asgi_dbconn")
    assert stage.stats.unclean == 0
    kept = [await spoil(stage, "connection", how)]
    assert stage.stats.unclean == 1
    said = warnings_of(caplog)
    assert len(said) == 1
    assert "the careless report" in said[0]
    assert "spoiler" not in said[0]
    await stage.check()
    assert stage.stats.unclean == 1
    del kept


async def test_one_connection_is_complained_about_once_a_minute(
    postgres_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage = postgres_stage
    caplog.set_level(logging.WARNING, logger="asgi_dbconn")
    for _ in range(3):
        await spoil(stage, "connection", _raw_begin)
    assert stage.stats.unclean == 3
    assert len(warnings_of(caplog)) == 1


async def test_a_clean_connection_is_not_counted(stage: Stage) -> None:
    async with stage.models.transaction():
        await stage.create("one")
    async with stage.models.connection() as connection:
        await connection.execute(text("SELECT 1"))
        await driver_of(connection)
    with pytest.raises(BlockError):
        async with stage.models.session() as session:
            await session.execute(INSERT, {"name": "gone"})
            raise BlockError
    assert stage.stats.unclean == 0
    await stage.check("one")


# -- statements that are under way


async def _execute(connection: AsyncConnection) -> None:
    await connection.execute(text(HOLD))


async def _raw_execute(connection: AsyncConnection) -> None:
    await (await driver_of(connection)).execute(HOLD)


@pytest.mark.parametrize("way", ["connect", "begin"])
@pytest.mark.parametrize("work", [_execute, _raw_execute])
async def test_a_statement_under_way_on_the_engines_own_connection(
    stage: Stage, work: Callable[[AsyncConnection], Awaitable[None]], way: str
) -> None:
    stage.watcher.hold()
    engine = stage.models.database.engine
    with suppress(Exception):  # SQLAlchemy's own block; what matters is who comes next
        async with getattr(engine, way)() as connection:
            task = asyncio.ensure_future(work(connection))
            await stage.until_held()
            asyncio.get_running_loop().call_later(0.1, stage.watcher.release)
    await asyncio.wait({task}, timeout=3)
    assert task.done()
    task.exception()
    await stage.check()


async def test_a_begin_that_was_cancelled_on_its_way(
    postgres_url: str, proxy: Proxy, other_process: OtherProcess
) -> None:
    # The server hears of the BEGIN when the connection is back in the pool.
    async with open_stage(postgres_url, other_process, through=proxy.url_for(postgres_url)) as it:
        said: list[int] = []

        async def begin() -> None:
            async with it.models.database.engine.connect() as connection:
                driver = await driver_of(connection)
                proxy.delay(0.2)
                said.append(proxy.bytes_from_clients)
                await driver.execute("BEGIN")

        await it.create("before")
        task = asyncio.create_task(begin())
        await wait_until_async(lambda: said and proxy.bytes_from_clients > said[0], 2)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        proxy.set_mode("pass")
        await it.check("before")


async def test_a_task_that_goes_on_with_a_driver_it_has_kept(stage: Stage) -> None:
    ended = asyncio.Event()

    async def go_on(driver: Any) -> None:
        await ended.wait()
        await driver.execute(HOLD)

    async with stage.models.connection() as connection:
        stage.watcher.hold()
        task = asyncio.create_task(go_on(await driver_of(connection)))
        ended.set()
        await stage.until_held()
        asyncio.get_running_loop().call_later(0.05, stage.watcher.release)
    with suppress(Exception):
        await asyncio.wait_for(task, 3)
    await stage.check()


# -- generators that nobody closes


@pytest.mark.parametrize("kind", ["connection", "session", "transaction"])
async def test_an_abandoned_generator(stage: Stage, kind: str) -> None:
    await stage.models.database.run(
        lambda connection: connection.execute(
            INSERT, [{"name": f"item {number}"} for number in range(5)]
        ),
        autocommit=False,
    )

    async def rows() -> AsyncIterator[object]:
        async with getattr(stage.models, kind)() as handle:
            executor: Any = handle.connection if kind == "transaction" else handle
            await executor.execute(INSERT, {"name": "of the generator"})
            # Not `async with`: SQLAlchemy's context manager swallows a GeneratorExit.
            async for row in await executor.stream(text("SELECT name FROM items")):
                yield row

    async def abandon() -> None:
        async for _ in rows():
            break

    # In a task of its own: a generator that is left open shows its scope to the code around it.
    await asyncio.create_task(abandon())
    gc.collect()
    await wait_until_async(lambda: not stage.stats.in_use, 3, message="the connection is back")
    await stage.check(*(f"item {number}" for number in range(5)))


@pytest.mark.parametrize("is_in_block", [True, False])
async def test_an_abandoned_stream_of_objects(stage: Stage, is_in_block: bool) -> None:
    for number in range(5):
        await stage.create(f"item {number}")

    async def rows() -> AsyncIterator[object]:
        async with stage.Item.query.stream(1) as items:
            async for item in items:
                yield item

    async def abandon() -> None:
        if is_in_block:
            async with stage.models.transaction():
                generators.append(rows())
                await anext(generators[0])
        else:
            generators.append(rows())
            await anext(generators[0])

    generators: list[Any] = []
    await asyncio.create_task(abandon())
    if not is_in_block:
        generators.clear()
        gc.collect()
    await stage.check(*(f"item {number}" for number in range(5)))
    for generator in generators:
        with suppress(Exception):
            await generator.aclose()
