"""The driver's own connection, handed out inside a block, is a part of the block.

Its first statement belongs to the transaction, and what it has set for the session does not reach
the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tests.blocks.children import driver_of
from tests.blocks.ends import BlockError
from tests.blocks.kinds import KINDS, Handle
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import Stage, open_stage
from tests.support.waiting import wait_until_async

Door = Callable[[AsyncConnection], Awaitable[Any]]


async def _raw_connection(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def _dbapi_connection(connection: AsyncConnection) -> Any:
    raw: Any = (await connection.get_raw_connection()).dbapi_connection
    return raw.driver_connection


async def _run_sync(connection: AsyncConnection) -> Any:
    return await connection.run_sync(lambda sync: sync.connection.driver_connection)


async def _run_sync_dbapi(connection: AsyncConnection) -> Any:
    def find(sync: Any) -> Any:
        return sync.connection.dbapi_connection.driver_connection

    return await connection.run_sync(find)


DOORS: tuple[Door, ...] = (_raw_connection, _dbapi_connection, _run_sync, _run_sync_dbapi)
TRANSACTIONS = ("transaction", "savepoint", "joined connection", "joined session", "force_rollback")


async def copy(driver: Any) -> None:
    await driver.copy_records_to_table("items", records=[("copied",)], columns=["name"])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", TRANSACTIONS)
async def test_a_copy_as_the_first_statement_is_rolled_back(
    postgres_stage: Stage, kind: str, door: Door
) -> None:
    async def body(handle: Handle) -> None:
        connection = await handle.connection() if isinstance(handle, AsyncSession) else handle
        await copy(await door(connection))  # type: ignore[arg-type]
        raise BlockError

    with pytest.raises(BlockError):
        await KINDS[kind].run(postgres_stage, body)
    await postgres_stage.check()


@pytest.mark.parametrize("door", DOORS)
async def test_a_copy_as_the_first_statement_is_committed(
    postgres_stage: Stage, door: Door
) -> None:
    async with postgres_stage.models.transaction() as transaction:
        await copy(await door(transaction.connection))
        assert postgres_stage.watcher.names() == []
    await postgres_stage.check("copied")


async def test_a_copy_in_a_session(postgres_stage: Stage) -> None:
    with pytest.raises(BlockError):
        async with postgres_stage.models.session() as session:
            await copy(await _raw_connection(await session.connection()))
            raise BlockError
    with pytest.raises(BlockError):
        async with postgres_stage.models.session() as session:

            def find(sync: Any) -> Any:
                return sync.connection().connection.driver_connection

            await copy(await session.run_sync(find))
            raise BlockError
    await postgres_stage.check()


@pytest.mark.parametrize("door", DOORS)
async def test_a_copy_on_the_engines_own_transaction(postgres_stage: Stage, door: Door) -> None:
    with pytest.raises(BlockError):
        async with postgres_stage.models.database.engine.begin() as connection:
            await copy(await door(connection))
            raise BlockError
    await postgres_stage.check()


async def test_a_copy_in_an_isolated_transaction(postgres_stage: Stage) -> None:
    stage = postgres_stage
    async with stage.models.rollback():
        with pytest.raises(BlockError):
            async with stage.models.transaction() as transaction:
                await copy(await _raw_connection(transaction.connection))
                raise BlockError
        assert await stage.Item.query.count() == 0
    await stage.check()


async def test_the_transaction_options_are_in_force_for_the_driver(postgres_stage: Stage) -> None:
    async with postgres_stage.models.transaction(isolation_level="SERIALIZABLE") as transaction:
        driver = await driver_of(transaction.connection)
        assert await driver.fetchval("SHOW transaction_isolation") == "serializable"
    async with postgres_stage.models.transaction(readonly=True) as transaction:
        driver = await driver_of(transaction.connection)
        assert await driver.fetchval("SHOW transaction_read_only") == "on"


@pytest.mark.parametrize("door", DOORS)
async def test_nothing_is_begun_in_autocommit(postgres_stage: Stage, door: Door) -> None:
    async with postgres_stage.models.connection() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("SELECT 1"))
        driver = await door(connection)
        assert not driver.is_in_transaction()
        await driver.execute("VACUUM items")
    await postgres_stage.check()


async def test_the_first_statement_of_sqlites_driver_is_rolled_back(sqlite_stage: Stage) -> None:
    with pytest.raises(BlockError):
        async with sqlite_stage.models.transaction() as transaction:
            driver = await driver_of(transaction.connection)
            await driver.execute("INSERT INTO items (name) VALUES ('copied')")
            raise BlockError
    await sqlite_stage.check()


# -- what is set for a session

SETTINGS: dict[str, tuple[str, str, object]] = {
    "SET": ("SET work_mem = '12MB'", "SHOW work_mem", "4MB"),
    "advisory lock": (
        "SELECT pg_advisory_lock(99)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 99",
        0,
    ),
    "LISTEN": ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", 0),
    "temporary table": (
        "CREATE TEMPORARY TABLE mine (n int)",
        "SELECT count(*) FROM pg_class WHERE relname = 'mine'",
        0,
    ),
}


@pytest.fixture
async def single(postgres_url: str, other_process: OtherProcess) -> Any:
    """One connection, so that the next request gets it."""
    async with open_stage(postgres_url, other_process, pool_size=1) as stage:
        yield stage


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
@pytest.mark.parametrize("name", SETTINGS)
async def test_what_the_driver_has_set_does_not_survive_the_block(
    single: Stage, name: str, fails: bool
) -> None:
    change, question, answer = SETTINGS[name]
    try:
        async with single.models.connection() as connection:
            await (await driver_of(connection)).execute(change)
            if fails:
                raise BlockError
    except BlockError:
        pass
    async with single.models.connection() as connection:
        assert (await connection.execute(text(question))).scalar_one() == answer
    await single.check()


@pytest.mark.parametrize("kind", ["connection", "transaction"])
async def test_a_listener_does_not_survive_the_block(single: Stage, kind: str) -> None:
    heard: list[object] = []
    async with getattr(single.models, kind)() as handle:
        driver = await driver_of(handle.connection if kind == "transaction" else handle)
        await driver.add_listener("news", lambda *arguments: heard.append(arguments[-1]))
    async with single.models.connection() as connection:
        channels = await connection.execute(text("SELECT * FROM pg_listening_channels()"))
        assert channels.all() == []
    for _ in range(2):
        single.postgres.execute("NOTIFY news, 'late'")
        async with single.models.connection() as connection:
            await connection.execute(text("SELECT 1"))
    assert heard == []
    await single.check()


async def test_a_listener_of_the_engines_own_connection(single: Stage) -> None:
    heard: list[object] = []
    async with single.models.database.engine.connect() as connection:
        driver = await driver_of(connection)
        await driver.add_listener("news", lambda *arguments: heard.append(arguments[-1]))
    single.postgres.execute("NOTIFY news, 'late'")
    async with single.models.connection() as connection:
        channels = await connection.execute(text("SELECT * FROM pg_listening_channels()"))
        assert channels.all() == []
    assert heard == []
    await single.check()


async def test_a_listener_in_a_block_that_has_begun_nothing_hears(single: Stage) -> None:
    heard: list[object] = []
    async with single.models.connection() as connection:
        driver = await driver_of(connection)
        await driver.add_listener("news", lambda *arguments: heard.append(arguments[-1]))
        assert not driver.is_in_transaction()
        single.postgres.execute("NOTIFY news, 'now'")
        await wait_until_async(lambda: heard == ["now"], 2)
    await single.check()


async def test_a_listener_hears_after_a_commit(single: Stage) -> None:
    heard = asyncio.Event()
    async with single.models.connection() as connection:
        await connection.execute(text("SELECT 1"))
        driver = await driver_of(connection)
        await driver.add_listener("news", lambda *_: heard.set())
        await connection.commit()
        single.postgres.execute("NOTIFY news, 'now'")
        await asyncio.wait_for(heard.wait(), 2)
    await single.check()


async def test_a_block_that_never_saw_the_driver_is_not_reset(single: Stage) -> None:
    # Plain SQL cannot be seen, and its session state stays: reset="full" is for that.
    async with single.models.connection() as connection:
        await connection.execute(text("SET work_mem = '12MB'"))
    async with single.models.connection() as connection:
        assert (await connection.execute(text("SHOW work_mem"))).scalar_one() == "12MB"
