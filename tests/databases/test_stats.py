"""stats(): what a database looks like now, and what it has counted."""

from __future__ import annotations

import asyncio
import socket

import pytest

from asgi_dbconn import (
    Database,
    DatabaseNotConnectedWarning,
    DatabaseUnavailable,
    PoolTimeout,
    Registry,
)
from asgi_dbconn.pools.statistics import PoolStats


async def test_a_snapshot_shows_who_has_what(database_url: str) -> None:
    async with Database(database_url, pool_size=3) as database:
        async with database.connection():
            now = database.stats()
            assert (now.loops, now.size, now.in_use, now.waiting) == (1, 3, 1, 0)
        later = database.stats()
        assert (later.in_use, later.idle) == (0, 1)
        assert (now.in_use, later.connects) == (1, 1)  # the first one has not changed

    assert database.stats() == PoolStats(acquired=2, connects=1)


async def test_waiting_and_timing_out_are_counted(database_url: str) -> None:
    async with Database(database_url, pool_size=1, acquire_timeout=0.05) as database:
        async with database.connection():
            # On the engine, which does not join the block's connection.
            with pytest.raises(PoolTimeout):
                await database.engine.connect()
        counted = database.stats()

    assert counted.timeouts == 1
    assert counted.wait_seconds >= 0.05


async def test_failed_connects_are_counted() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        database = Database(
            f"postgresql://u@127.0.0.1:{bound.getsockname()[1]}/d", startup_timeout=0
        )
        with pytest.raises(DatabaseUnavailable):
            await database.connect()

    assert database.stats().connect_errors == 1


async def test_transient_uses_are_counted(database_url: str) -> None:
    database = Database(database_url)
    with pytest.warns(DatabaseNotConnectedWarning):
        await database.ping()

    counted = database.stats()
    assert (counted.transient_uses, counted.connects, counted.loops) == (1, 1, 0)


def test_what_a_loop_counted_survives_it(database_url: str) -> None:
    database = Database(database_url)
    asyncio.run(database.connect())
    for _ in range(3):
        asyncio.run(database.ping())
    asyncio.run(database.disconnect())

    assert database.stats() == PoolStats(acquired=4, connects=4)


async def test_a_registry_has_them_by_name(sqlite_url: str) -> None:
    models = Registry(sqlite_url, extra={"audit": "sqlite://"})
    async with models:
        await models.ping()
        acquired = {name: counters.acquired for name, counters in models.stats().items()}

    assert acquired == {None: 2, "audit": 2}
