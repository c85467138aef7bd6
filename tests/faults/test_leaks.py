"""Connections that are taken and not given back: who did it, and where."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from asgi_dbconn import Database, Observer, PoolTimeout
from tests.support.leftovers import wait_until_async


class Leaks(Observer):
    def __init__(self) -> None:
        self.holders: list[str] = []

    def connection_leaked(self, database: str, holder: str, seconds: float) -> None:
        self.holders.append(holder)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "asgi_dbconn"):
        yield caplog


async def test_one_who_forgets_a_connection_is_named_with_the_lines_that_took_it(
    database_url: str, log: pytest.LogCaptureFixture
) -> None:
    """Scenario 31, held for ever: told in time, counted, and listed at shutdown."""
    leaks = Leaks()
    database = Database(database_url, pool_size=1, leak_after=0.2, shutdown_timeout=0.1)
    database.observe(leaks)
    await database.connect()

    async def forget() -> None:
        forgotten.append(await database.engine.connect())

    forgotten: list[AsyncConnection] = []
    started = asyncio.get_running_loop().time()
    await asyncio.create_task(forget(), name="report")
    await wait_until_async(lambda: leaks.holders, 1.2)
    assert 0.2 <= asyncio.get_running_loop().time() - started <= 1.2

    assert leaks.holders == ["report"]
    assert database.stats().leaks == 1
    assert "report has held a connection for 0.2 s (leak_after)" in log.text
    assert "forgotten.append(await database.engine.connect())" in log.text
    log.clear()
    report = await database.disconnect()
    assert report is not None
    assert report.cancelled + report.cut == 1
    assert f"Held by: report at {__file__}:" in log.text
    await forgotten.pop().close()


@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning")
async def test_one_who_drops_a_connection_is_named_and_its_place_is_free_again(
    database_url: str, log: pytest.LogCaptureFixture
) -> None:
    """Scenario 31, dropped: the pool gets its permit back from the garbage collector."""
    leaks = Leaks()
    async with Database(database_url, pool_size=1, leak_after=30) as database:
        database.observe(leaks)

        async def drop() -> None:
            await database.engine.connect()

        await asyncio.create_task(drop(), name="report")
        gc.collect()
        await wait_until_async(lambda: leaks.holders, 1)

        assert "report dropped a connection without giving it back" in log.text
        assert "await database.engine.connect()" in log.text
        await database.ping()
        assert database.stats().in_use == 0


async def test_one_who_is_late_is_told_of_twice(
    database_url: str, log: pytest.LogCaptureFixture
) -> None:
    async with Database(database_url, leak_after=0.05) as database:
        async with database.connection():
            await wait_until_async(lambda: database.stats().leaks, 1)
        assert "gave its connection back after all" in log.text


async def test_one_who_is_in_time_is_not_told_of(
    database_url: str, log: pytest.LogCaptureFixture
) -> None:
    async with Database(database_url, leak_after=0.2, pool_size=1) as database:
        for _ in range(5):
            await database.ping()
        late = asyncio.get_running_loop().time() + 0.25
        await wait_until_async(lambda: asyncio.get_running_loop().time() > late, 2)
        assert database.stats().leaks == 0
    assert log.text == ""


async def test_an_exhausted_pool_says_where_its_connections_were_taken(database_url: str) -> None:
    async with Database(database_url, pool_size=1, leak_after=30, acquire_timeout=0.1) as database:
        async with database.connection():
            with pytest.raises(PoolTimeout, match=rf"held longest by .* at {__file__}:\d+ for"):
                await database.engine.connect()
