"""SQLite under contention and in trouble: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from asgi_dbconn import Database, DatabaseUnavailable
from tests.faults.threads import Threads
from tests.support.environments import ROOT
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until, wait_until_async

COUNT = text("SELECT n FROM counter")
each_memory = pytest.mark.parametrize("memory_url", ["sqlite://", "sqlite:///:memory:"])


async def run(database: Database, statement: str) -> None:
    async with database.transaction() as transaction:
        await transaction.connection.execute(text(statement))


async def rows(database: Database) -> list[int]:
    """The numbers in ``t``, in order."""
    async with database.transaction(readonly=True) as transaction:
        found = await transaction.connection.execute(text("SELECT n FROM t ORDER BY n"))
        return list(found.scalars())


async def counted_by(database: Database, loops: int, tasks: int, times: int) -> int:
    """What a counter says after so many loops let so many tasks read it and write one more."""

    async def increment() -> None:
        for _ in range(times):
            async with database.transaction() as transaction:
                execute = transaction.connection.execute
                n = (await execute(COUNT)).scalar_one()
                await execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    async def work() -> None:
        await asyncio.gather(*(increment() for _ in range(tasks)))

    async with database:
        await run(database, "CREATE TABLE counter (n int)")
        await run(database, "INSERT INTO counter VALUES (0)")
        threads = Threads([lambda: asyncio.run(work())] * loops)
        await asyncio.to_thread(threads.results, 30)
        assert database.stats().loops == 1
        async with database.connection() as connection:
            return int((await connection.execute(COUNT)).scalar_one())


@each_memory
async def test_loops_share_a_memory_database_and_lose_no_update(memory_url: str) -> None:
    """Scenario 71."""
    assert await counted_by(Database(memory_url), loops=3, tasks=5, times=10) == 150


async def test_a_file_loses_no_update_and_is_never_locked(sqlite_url: str) -> None:
    """Scenario 72."""
    assert await counted_by(Database(sqlite_url), loops=2, tasks=10, times=10) == 200


@each_memory
async def test_a_rollback_in_memory_takes_back_its_own_writes_and_no_others(
    memory_url: str,
) -> None:
    """Scenario 73: one transaction is rolled back while another waits for its turn."""
    async with Database(memory_url) as database:
        await run(database, "CREATE TABLE t (n int)")

        async def fail_once_the_other_waits() -> None:
            async with database.transaction() as transaction:
                await transaction.connection.execute(text("INSERT INTO t VALUES (1)"))
                inserted.set()
                await wait_until_async(lambda: database.stats().in_use == 2, 5)
                raise KeyError

        inserted = asyncio.Event()
        failing = asyncio.create_task(fail_once_the_other_waits())
        await inserted.wait()
        await run(database, "INSERT INTO t VALUES (2)")
        with pytest.raises(KeyError):
            await failing

        assert await rows(database) == [2]


async def test_every_other_of_many_interleaved_transactions_in_memory_is_taken_back() -> None:
    """Scenario 73: twenty at once."""
    async with Database("sqlite://") as database:
        await run(database, "CREATE TABLE t (n int)")

        async def either(number: int) -> None:
            async with database.transaction() as transaction:
                insert = text("INSERT INTO t VALUES (:n)")
                await transaction.connection.execute(insert, {"n": number})
                await asyncio.sleep(0)
                await transaction.connection.execute(insert, {"n": number})
                if number % 2:
                    raise KeyError

        outcomes = await asyncio.gather(*(either(n) for n in range(20)), return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [type(None), KeyError] * 10
        assert await rows(database) == sorted([*range(0, 20, 2)] * 2)


def test_connecting_twenty_times_leaves_no_thread(sqlite_url: str) -> None:
    """Scenario 74: within one loop, and with a loop for each."""
    before = set(threading.enumerate())
    database = Database(sqlite_url)

    async def once() -> None:
        async with database:
            await asyncio.gather(*(database.ping() for _ in range(3)))
            assert len(set(threading.enumerate()) - before) == 3
        wait_until(lambda: set(threading.enumerate()) == before, 1.0)

    async def ten_times() -> None:
        for _ in range(10):
            await once()

    asyncio.run(ten_times())
    for _ in range(10):
        asyncio.run(once())


CONNECTING = """
import asyncio, sys
from asgi_dbconn import Database

async def main():
    database = Database(sys.argv[1])
    for _ in range(20):
        async with database:
            await asyncio.gather(*(database.ping() for _ in range(3)))

asyncio.run(main())
print("disconnected", flush=True)
"""


def test_a_process_that_connected_twenty_times_ends_at_once(sqlite_url: str) -> None:
    """Scenario 74: no thread of a connection holds the interpreter up."""
    command = [sys.executable, "-W", "error", "-c", CONNECTING, sqlite_url]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "disconnected\n"
            assert process.wait(1.0) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()


def hide_the_folder(file: Path) -> Callable[[], object]:
    """A file where the folder should be; returns how to undo it."""
    hidden = file.parent.rename(file.parent.with_name("hidden"))
    file.parent.write_text("not a folder")

    def undo() -> None:
        file.parent.unlink()
        hidden.rename(file.parent)

    return undo


def take_the_journals_place(file: Path) -> Callable[[], object]:
    """No journal can be made beside the file, as in a read-only folder, and for root neither."""
    obstacle = file.with_name(f"{file.name}-wal")
    obstacle.mkdir()
    return obstacle.rmdir


@pytest.mark.parametrize("make_trouble", [hide_the_folder, take_the_journals_place])
async def test_a_file_that_cannot_be_opened_can_be_once_its_folder_is_right(
    tmp_path: Path, make_trouble: Callable[[Path], Callable[[], object]]
) -> None:
    """Scenario 75."""
    file = tmp_path / "folder" / "test.sqlite"
    file.parent.mkdir()
    database = Database(f"sqlite:///{file}")
    async with database:
        await run(database, "CREATE TABLE t (n int)")
    undo = make_trouble(file)

    for _ in range(3):
        with taking(most=5), pytest.raises(DatabaseUnavailable, match=r"1 attempt.*would not help"):
            await database.connect()
        assert not database.is_connected

    undo()
    async with database:
        await run(database, "INSERT INTO t VALUES (1)")
        assert await rows(database) == [1]


async def test_a_folder_that_goes_away_fails_new_connections_only_and_while_it_lasts(
    tmp_path: Path,
) -> None:
    """Scenario 75, with a pool that is open and wants to grow."""
    file = tmp_path / "folder" / "test.sqlite"
    file.parent.mkdir()
    async with Database(f"sqlite:///{file}", pool_size=2, acquire_timeout=1) as database:
        engine = database.engine
        async with engine.connect() as held:
            undo = hide_the_folder(file)
            for _ in range(3):  # more often than there are connections: none of them is lost
                with pytest.raises(DatabaseUnavailable, match="Does the folder exist"):
                    await database.ping()
            assert (await held.execute(text("SELECT 7"))).scalar_one() == 7
            undo()
            await database.ping()
        async with engine.connect(), engine.connect():
            pass


@asynccontextmanager
async def nearly_full(url: str) -> AsyncIterator[Database]:
    """A database whose file may grow by a few pages only."""
    async with Database(url, pool_size=1, acquire_timeout=1) as database:
        await run(database, "CREATE TABLE t (n int, filler blob)")
        async with database.connection() as connection:
            # A limit of the connection, and there is one. To the code that writes it looks like
            # a full disk.
            await connection.execute(text("PRAGMA max_page_count=20"))
        yield database


async def test_a_full_disk_fails_the_transaction_and_not_the_pool(sqlite_url: str) -> None:
    """Scenario 75."""
    async with nearly_full(sqlite_url) as database:
        await run(database, "INSERT INTO t VALUES (1, NULL)")
        for _ in range(3):
            with pytest.raises(OperationalError, match="disk is full") as caught:
                async with database.transaction() as transaction:
                    await transaction.connection.execute(text("INSERT INTO t VALUES (2, NULL)"))
                    too_much = text("INSERT INTO t VALUES (3, randomblob(1000000))")
                    await transaction.connection.execute(too_much)
            assert getattr(caught.value.orig, "sqlite_errorname", "") == "SQLITE_FULL"

        assert await rows(database) == [1]
        await run(database, "INSERT INTO t VALUES (4, NULL)")
        assert await rows(database) == [1, 4]


async def test_a_read_only_file_can_be_read(sqlite_url: str) -> None:
    """Scenario 75."""
    async with Database(sqlite_url) as writing:
        await run(writing, "CREATE TABLE t (n int)")
        await run(writing, "INSERT INTO t VALUES (1)")
    file = sqlite_url.removeprefix("sqlite:///")

    async with Database(f"sqlite:///file:{file}?mode=ro&uri=true", pool_size=1) as database:
        for _ in range(3):
            with pytest.raises(OperationalError, match="readonly") as caught:
                await run(database, "INSERT INTO t VALUES (2)")
            assert getattr(caught.value.orig, "sqlite_errorname", "") == "SQLITE_READONLY"
            assert await rows(database) == [1]
