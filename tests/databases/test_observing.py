"""observe(): what the pools do, told to whoever wants to know."""

from __future__ import annotations

import asyncio
import logging

import pytest

from asgi_dbconn import (
    Database,
    DatabaseNotConnectedWarning,
    DatabaseUnavailable,
    Observer,
    PoolOverloaded,
    PoolTimeout,
    Registry,
)
from asgi_dbconn.pools.statistics import DrainReport


class Diary(Observer):
    """Writes down the name of every event."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.seconds: list[float] = []

    def _note(self, event: str, *_: object) -> None:
        self.events.append(event)

    def database_connected(self, database: str) -> None:
        self._note("database_connected")

    def database_disconnected(self, database: str, report: DrainReport) -> None:
        self._note(f"database_disconnected ({report})")

    def connection_opened(self, database: str, seconds: float) -> None:
        self._note("connection_opened")
        self.seconds.append(seconds)

    def connection_failed(self, database: str, error: Exception) -> None:
        self._note(f"connection_failed {type(error).__name__}")

    def connection_retired(self, database: str) -> None:
        self._note("connection_retired")

    def acquired(self, database: str, seconds: float) -> None:
        self._note("acquired")
        self.seconds.append(seconds)

    def released(self, database: str, seconds: float) -> None:
        self._note("released")
        self.seconds.append(seconds)

    def acquire_timed_out(self, database: str, seconds: float) -> None:
        self._note("acquire_timed_out")
        self.seconds.append(seconds)

    def acquire_refused(self, database: str) -> None:
        self._note("acquire_refused")

    def used_unconnected(self, database: str) -> None:
        self._note("used_unconnected")


async def test_the_life_of_a_connection_is_told(database_url: str) -> None:
    diary = Diary()
    database = Database(database_url, pool_size=1)
    database.observe(diary)
    async with database:
        await database.ping()
        await database.refresh()

    once = ["acquired", "released"]
    assert diary.events == [
        "connection_opened",
        *once,
        "database_connected",
        *once,
        "connection_retired",
        "connection_opened",
        *once,
        "database_disconnected (1 closed, 0 cancelled, 0 cut)",
    ]
    assert all(0 <= duration < 5 for duration in diary.seconds)


async def test_what_the_pool_refuses_is_told(database_url: str) -> None:
    diary = Diary()
    async with Database(database_url, pool_size=1, max_waiting=1, acquire_timeout=0.1) as database:
        stop = database.observe(diary)
        async with database.engine.connect():
            waiting = asyncio.create_task(database.ping())
            await asyncio.sleep(0)
            with pytest.raises(PoolOverloaded):
                await database.ping()
            with pytest.raises(PoolTimeout):
                await waiting
        stop()
        stop()  # once more is harmless
        await database.ping()

    assert diary.events == [
        "acquired",
        "acquire_refused",
        "acquire_timed_out",
        "released",
    ]
    assert diary.seconds[1] >= 0.1


async def test_failures_and_unconnected_use_are_told(tmp_path: object, sqlite_url: str) -> None:
    diary = Diary()
    missing = Database(f"sqlite:///{tmp_path}/no/such/folder.db")
    missing.observe(diary)
    with pytest.raises(DatabaseUnavailable):
        await missing.connect()
    assert diary.events == ["connection_failed DatabaseUnavailable"]

    unconnected = Database(sqlite_url)
    unconnected.observe(diary)
    with pytest.warns(DatabaseNotConnectedWarning):
        await unconnected.ping()
    assert diary.events[1] == "used_unconnected"


async def test_an_observer_that_fails_harms_nobody(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Careless(Observer):
        def acquired(self, database: str, seconds: float) -> None:
            raise KeyError(database)

    diary = Diary()
    models = Registry(database_url)
    models.observe(Careless())
    models.observe(diary)
    with caplog.at_level(logging.ERROR, "asgi_dbconn"):
        async with models:
            await models.ping()

    assert diary.events.count("acquired") == 2
    assert "Careless" in caplog.text


async def test_a_registry_observes_every_database_once(sqlite_url: str) -> None:
    diary = Diary()
    shared = Database(sqlite_url)
    models = Registry(shared, extra={"again": shared, "memory": "sqlite://"})
    stop = models.observe(diary)
    async with models:
        pass
    assert diary.events.count("database_connected") == 2
    stop()
    async with models:
        pass
    assert diary.events.count("database_connected") == 2
