"""run_transaction(): what lost against another transaction is run again, from its beginning."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from asgi_dbconn import ConfigurationError, TransactionError
from asgi_dbconn.pools.driver_errors import driver_error, is_conflict
from tests.databases.connected import connected, names
from tests.models import Cast


class Conflict:
    """A function for a transaction that loses ``times`` times before it succeeds."""

    def __init__(self, cast: Cast, times: int, state: str = "40001") -> None:
        self.calls = 0
        self._cast = cast
        self._times = times
        self._state = state

    async def __call__(self) -> str:
        self.calls += 1
        await self._cast.User.query.create(name=f"u{self.calls}")
        if self.calls <= self._times:
            raising = f"DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '{self._state}'; END $$"
            async with self._cast.models.connection() as connection:
                await connection.execute(text(raising))
        return "done"


async def test_it_commits_what_the_function_did_and_gives_what_it_returned(
    database_url: str,
) -> None:
    async with connected(database_url) as cast:

        async def work() -> str:
            await cast.User.query.create(name="ada")
            return "done"

        assert await cast.models.run_transaction(work) == "done"
        assert await names(cast) == ["ada"]


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_conflict_is_tried_again_from_the_beginning(postgres_url: str, state: str) -> None:
    async with connected(postgres_url) as cast:
        work = Conflict(cast, times=2, state=state)
        assert await cast.models.run_transaction(work) == "done"

        assert work.calls == 3
        assert await names(cast) == ["u3"]


@pytest.mark.parametrize("retries", [0, 2])
async def test_the_last_conflict_is_raised(postgres_url: str, retries: int) -> None:
    async with connected(postgres_url) as cast:
        work = Conflict(cast, times=9)
        with pytest.raises(DBAPIError, match="lost"):
            await cast.models.run_transaction(work, retries=retries)

        assert work.calls == 1 + retries
        assert await names(cast) == []


async def test_other_errors_are_not_tried_again(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        work = Conflict(cast, times=1, state="55000")
        with pytest.raises(DBAPIError, match="lost"):
            await cast.models.run_transaction(work)

        assert work.calls == 1


async def test_every_concurrent_increment_counts(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        await cast.User.query.create(name="ada", age=0)

        async def increment() -> None:
            user = await cast.User.query.get(name="ada")
            await asyncio.sleep(0)
            await cast.User.query.filter(name="ada").update(age=user.age + 1)

        await asyncio.gather(
            *(
                cast.models.run_transaction(
                    increment, isolation_level="REPEATABLE READ", retries=50
                )
                for _ in range(8)
            )
        )
        assert (await cast.User.query.get(name="ada")).age == 8


async def test_a_conflict_that_shows_at_the_commit(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        both_have_read = asyncio.Barrier(2)
        calls: list[str] = []

        async def write_if_alone(name: str) -> None:
            first = name not in calls
            calls.append(name)
            if await cast.User.query.count() == 0:
                if first:
                    await both_have_read.wait()
                await cast.User.query.create(name=name)
                if first:
                    # Both have written before either commits: only the commit can find out.
                    await both_have_read.wait()

        await asyncio.gather(
            *(
                cast.models.run_transaction(
                    partial(write_if_alone, name), isolation_level="SERIALIZABLE"
                )
                for name in ("ada", "bob")
            )
        )
        assert len(await names(cast)) == 1
        assert len(calls) == 3


async def test_a_deadlock_is_resolved(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        for name in ("ada", "bob"):
            await cast.User.query.create(name=name, age=0)
        both_hold_one = asyncio.Barrier(2)
        calls: list[str] = []

        async def lock(first: str, second: str) -> None:
            calls.append(first)
            await cast.User.query.filter(name=first).update(age=cast.User.age + 1)
            if calls.count(first) == 1:
                await both_hold_one.wait()
            await cast.User.query.filter(name=second).update(age=cast.User.age + 1)

        await asyncio.gather(
            cast.models.run_transaction(partial(lock, "ada", "bob")),
            cast.models.run_transaction(partial(lock, "bob", "ada")),
        )
        assert [user.age for user in await cast.User.query.order_by("name")] == [2, 2]
        assert len(calls) == 3


async def test_a_lock_that_sqlite_did_not_get(sqlite_url: str) -> None:
    async with connected(sqlite_url, pool_size=1) as cast:
        async with cast.models.connection() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout=0")  # at once, and not in 5 s
        other = sqlite3.connect(str(cast.models.database.url.database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with _told_of_repetitions(other.rollback):
            await cast.models.run_transaction(partial(cast.User.query.create, name="ada"))
        other.close()

        assert await names(cast) == ["ada"]


async def test_callbacks_of_failed_attempts_are_dropped(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        work = Conflict(cast, times=2)
        sent: list[int] = []

        async def order() -> None:
            async with cast.models.transaction() as transaction:
                transaction.on_commit(lambda: sent.append(work.calls))
            await work()

        await cast.models.run_transaction(order)
        assert sent == [3]


async def test_what_fails_after_the_commit_is_not_tried_again(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        calls: list[str] = []
        after = Conflict(cast, times=1)

        async def work() -> None:
            calls.append("work")
            async with cast.models.transaction() as transaction:
                transaction.on_commit(partial(cast.models.run_transaction, after, retries=0))

        with pytest.raises(DBAPIError, match="lost"):
            await cast.models.run_transaction(work)
        assert calls == ["work"]


async def test_inside_a_scope_it_is_a_savepoint_that_is_run_once(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        work = Conflict(cast, times=1)
        async with cast.models.transaction():
            await cast.User.query.create(name="ada")
            with pytest.raises(DBAPIError, match="lost"):
                await cast.models.run_transaction(work)
            await cast.models.run_transaction(partial(cast.User.query.create, name="bob"))
            with pytest.raises(TransactionError, match="outermost"):
                await cast.models.run_transaction(work, isolation_level="SERIALIZABLE")

        assert work.calls == 1
        assert await names(cast) == ["ada", "bob"]


async def test_isolated_for_a_test_it_tries_again(postgres_url: str) -> None:
    async with connected(postgres_url) as cast:
        async with cast.models.rollback():
            work = Conflict(cast, times=1)
            await cast.models.run_transaction(work, isolation_level="SERIALIZABLE")
            assert await names(cast) == ["u2"]
        assert await names(cast) == []


@pytest.mark.parametrize("retries", [-1, 1.5, "3", True])
async def test_retries_is_a_number(sqlite_url: str, retries: object) -> None:
    async with connected(sqlite_url) as cast:
        with pytest.raises(ConfigurationError, match="retries"):
            await cast.models.run_transaction(pytest.fail, retries=retries)  # type: ignore[arg-type]


async def test_the_drivers_own_error_is_read(database_url: str) -> None:
    async with connected(database_url) as cast:
        await cast.User.query.create(name="ada")
        with pytest.raises(IntegrityError) as caught:
            await cast.User.query.create(name="ada")

    original = driver_error(caught.value)
    assert type(original).__module__.split(".")[0] in {"sqlite3", "asyncpg"}
    assert not is_conflict(caught.value)
    assert driver_error(KeyError()) is None
    assert driver_error(DBAPIError("SELECT 1", None, None)) is None  # type: ignore[arg-type]


class _Told(logging.Handler):
    def __init__(self, then: object) -> None:
        super().__init__(logging.DEBUG)
        self.then = then

    def emit(self, record: logging.LogRecord) -> None:
        if "run again" in record.getMessage() and callable(self.then):
            self.then()


@contextmanager
def _told_of_repetitions(then: object) -> Iterator[None]:
    logger, handler = logging.getLogger("asgi_dbconn"), _Told(then)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
