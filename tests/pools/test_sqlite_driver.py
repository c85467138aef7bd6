"""The driver's connection to SQLite by itself: its thread, its cursors, its end."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asgi_dbconn.pools.dialects.sqlite_connection import TrackedConnection
from asgi_dbconn.pools.dialects.sqlite_driver import DriverConnection, Outcome
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until, wait_until_async

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT started() UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) "
    "SELECT max(i) FROM n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "test.sqlite"
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("CREATE TABLE t (n int)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(200)])
    connection.close()
    return path


class Gate:
    """A function in SQL that says that it was reached, and waits."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def wait(self) -> int:
        self.reached.set()
        self.opened.wait(20)
        return 1

    def pass_by(self) -> int:
        self.reached.set()
        return 1

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 10)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def driver(file: Path, gate: Gate) -> AsyncIterator[DriverConnection]:
    connection = DriverConnection.to(file, isolation_level=None)
    await connection
    await connection.create_function("held", 0, gate.wait)
    await connection.create_function("started", 0, gate.pass_by)
    yield connection
    gate.opened.set()
    await connection.close()


def is_locked(file: Path) -> bool:
    other = sqlite3.connect(file, timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    finally:
        other.close()
    return False


async def perform(driver: DriverConnection, statement: str, *parameters: object) -> list[Any]:
    outcome = Outcome()
    await driver.perform(outcome, statement, parameters, many=False)
    return list(outcome.rows)


async def test_it_settles_once_its_thread_is_idle(driver: DriverConnection, gate: Gate) -> None:
    driver.interrupt_after = 5.0
    writing = asyncio.create_task(perform(driver, "INSERT INTO t VALUES (held())"))
    await gate.until_reached()
    assert not driver.is_idle
    writing.cancel()
    await asyncio.wait({writing})
    settling = asyncio.create_task(driver.wait_or_interrupt(5.0))
    gate.opened.set()

    assert await settling
    assert driver.is_idle
    assert await perform(driver, "SELECT count(*) FROM t") == [(201,)]


async def test_it_interrupts_what_reads_and_is_usable(driver: DriverConnection, gate: Gate) -> None:
    reading = asyncio.create_task(perform(driver, ENDLESS))
    await gate.until_reached()
    with taking(most=1.0):
        assert await driver.wait_or_interrupt(2.0)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await reading

    assert await perform(driver, "SELECT count(*) FROM t") == [(200,)]


async def test_an_interrupt_finishes_the_cursors_that_would_keep_it_in_force(
    driver: DriverConnection, gate: Gate, file: Path
) -> None:
    await perform(driver, "BEGIN IMMEDIATE")
    cursor = await driver.execute("SELECT n FROM t")
    await cursor.fetchone()
    assert driver.has_unfinished_cursors
    reading = asyncio.create_task(perform(driver, ENDLESS))
    await gate.until_reached()
    assert await driver.wait_or_interrupt(2.0)
    await asyncio.wait({reading})
    assert not driver.has_unfinished_cursors

    await driver.end_transaction(("ROLLBACK",))

    assert not is_locked(file)
    assert isinstance(reading.exception(), sqlite3.OperationalError)


async def test_it_says_when_it_does_not_settle(driver: DriverConnection, gate: Gate) -> None:
    reading = asyncio.create_task(perform(driver, "SELECT held()"))
    await gate.until_reached()
    with taking(0.2, most=1.5):
        assert not await driver.wait_or_interrupt(0.2)
    gate.opened.set()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await reading
    await driver.close()
    assert not await driver.wait_or_interrupt(0.2)


async def test_waiting_for_it_to_settle_can_be_cancelled(
    driver: DriverConnection, gate: Gate
) -> None:
    reading = asyncio.create_task(perform(driver, "SELECT held()"))
    await gate.until_reached()
    settling = asyncio.create_task(driver.wait_or_interrupt(20.0))
    await asyncio.sleep(0)
    settling.cancel()
    with taking(most=1.0):
        with pytest.raises(asyncio.CancelledError):
            await settling
    gate.opened.set()
    assert await reading == [(1,)]


@pytest.mark.parametrize("way", ["close", "stop", "finish"])
async def test_its_end_frees_the_lock_of_an_unfinished_cursor(
    driver: DriverConnection, file: Path, way: str
) -> None:
    await perform(driver, "BEGIN IMMEDIATE")
    kept = await driver.execute("UPDATE t SET n = n RETURNING n")
    await kept.fetchone()
    assert is_locked(file)

    if way == "close":
        await driver.close()
    elif way == "finish":
        await driver.finish(1.0)
    else:
        driver.stop()

    await wait_until_async(lambda: not is_locked(file), 5)
    assert kept is not None


async def test_an_interrupted_connection_leaves_no_files_beside_its_own(
    driver: DriverConnection, gate: Gate, file: Path
) -> None:
    await perform(driver, "PRAGMA journal_mode=WAL")
    await perform(driver, "INSERT INTO t VALUES (1)")
    reading = asyncio.create_task(perform(driver, ENDLESS))
    await gate.until_reached()

    await driver.finish(2.0)
    await asyncio.wait({reading})

    assert isinstance(reading.exception(), sqlite3.OperationalError)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_its_thread_survives_the_loop_that_it_reports_to(file: Path, gate: Gate) -> None:
    threads = set(threading.enumerate())

    async def leave() -> DriverConnection:
        driver = DriverConnection.to(file, isolation_level=None)
        await driver
        await perform(driver, "BEGIN IMMEDIATE")
        driver._tx.put_nowait((asyncio.get_running_loop().create_future(), gate.wait))
        await gate.until_reached()
        return driver

    driver = asyncio.run(leave())
    gate.opened.set()  # the answer comes when the loop is closed
    driver.interrupt_now()
    driver.stop()

    wait_until(lambda: threads.issuperset(threading.enumerate()), 5)
    assert not is_locked(file)


async def test_what_was_opened_for_nobody_is_closed(file: Path) -> None:
    threads = set(threading.enumerate())
    held = threading.Event()

    class Slow(TrackedConnection):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            held.wait(20)
            super().__init__(*arguments, **named)
            self.execute("BEGIN IMMEDIATE")

    async def connect() -> None:
        await DriverConnection.to(file, factory=Slow, isolation_level=None)

    connecting = asyncio.create_task(connect())
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    held.set()

    await wait_until_async(lambda: threads.issuperset(threading.enumerate()), 5)
    assert not is_locked(file)


async def test_a_factory_of_ones_own_is_used(file: Path) -> None:
    class Own(sqlite3.Connection):
        pass

    driver = DriverConnection.to(file, factory=Own, isolation_level=None)
    await driver
    assert isinstance(driver._conn, Own)
    kept: list[sqlite3.Cursor] = []
    await driver.open_cursor("UPDATE t SET n = n RETURNING n", (), kept.append)
    assert driver.has_unfinished_cursors
    await driver.close()

    assert not is_locked(file)
    assert kept


def test_cursors_are_known_from_their_first_row_to_their_last() -> None:
    connection = sqlite3.connect(":memory:", factory=TrackedConnection, isolation_level=None)
    connection.execute("CREATE TABLE t (n int)")
    assert not connection.unfinished
    connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)])
    connection.executescript("INSERT INTO t VALUES (4);")
    assert not connection.unfinished

    for finish in ("close", "fetchall"):
        cursor = connection.execute("SELECT n FROM t")
        assert [reference() for reference in connection.unfinished] == [cursor]
        getattr(cursor, finish)()
        assert not connection.unfinished
    cursor = connection.cursor()
    cursor.execute("SELECT n FROM t LIMIT 3")
    cursor.fetchmany(3)
    assert connection.unfinished
    cursor.fetchmany(1)
    assert not connection.unfinished
    cursor.execute("SELECT n FROM t LIMIT 1")
    cursor.fetchone()
    assert connection.unfinished
    assert cursor.fetchone() is None
    assert not connection.unfinished
    cursor.execute("SELECT 1")
    with pytest.raises(sqlite3.OperationalError):
        cursor.execute("SELECT nothing")
    assert not connection.unfinished
    connection.close()


def test_cursors_and_blobs_are_known_weakly() -> None:
    connection = sqlite3.connect(":memory:", factory=TrackedConnection, isolation_level=None)
    connection.execute("CREATE TABLE b (b blob)")
    connection.execute("INSERT INTO b VALUES (zeroblob(10))")
    kept = [
        connection.execute("SELECT 1"),
        connection.cursor(sqlite3.Cursor),
        connection.blobopen("b", "b", 1),
    ]
    assert len(connection.unfinished) == 3
    gone = weakref.ref(kept[0])
    kept.clear()
    gc.collect()

    assert gone() is None
    assert not connection.unfinished
    connection.close()
