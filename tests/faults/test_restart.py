"""A server that is restarted while everybody works: errors with names, then all as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectionLost, Database, DatabaseUnavailable, PoolTimeout
from tests.faults.backends import pids
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer, StopMode

pytestmark = pytest.mark.postgres

ACQUIRE_TIMEOUT = 2.0
WORKERS = 20
PACE = 0.01
"""Seconds between two requests of a worker; a refusal may come at once, and then again."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    # One of our own in any case, because it is stopped.
    with PostgresServer("") as server:
        yield server


@dataclass(frozen=True)
class Request:
    """What one request of a worker has seen; times are the loop's."""

    worker: int
    started: float
    acquired: float | None
    ended: float
    error: Exception | None


class Workers:
    """Ask the database over and over, and write down how it went."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clock = asyncio.get_running_loop().time
        self.requests: list[Request] = []

    async def work(self, worker: int) -> None:
        while True:
            started, acquired, failure = self._clock(), None, None
            try:
                async with self._database.connection() as connection:
                    acquired = self._clock()
                    await connection.execute(text("SELECT 1"))
            except (ConnectionLost, DatabaseUnavailable, PoolTimeout) as error:
                failure = error
            self.requests.append(Request(worker, started, acquired, self._clock(), failure))
            await asyncio.sleep(PACE)

    def served_since(self, moment: float) -> set[int]:
        """The workers that have had a success with a request begun after ``moment``."""
        return {
            request.worker
            for request in self.requests
            if request.started > moment and request.error is None
        }


@pytest.mark.parametrize(
    "mode",
    [pytest.param("fast", id="restart"), pytest.param("immediate", id="crash")],
)
async def test_a_restart_is_over_for_everybody_a_second_after_it(
    postgres: PostgresServer, postgres_url: str, mode: StopMode
) -> None:
    """Scenarios 13 and 14."""
    clock = asyncio.get_running_loop().time
    async with Database(postgres_url, acquire_timeout=ACQUIRE_TIMEOUT) as database:
        workers = Workers(database)
        # An error that is none of ours leaves the group, and the test.
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(workers.work(number)) for number in range(WORKERS)]
            await wait_until_async(lambda: len(workers.served_since(0)) == WORKERS, 5)
            await asyncio.to_thread(postgres.stop, mode)
            await asyncio.to_thread(postgres.start)
            restarted_at = clock()
            await wait_until_async(
                lambda: len(workers.served_since(restarted_at)) == WORKERS,
                1,
                message="every worker is served again",
            )
            settled_at = restarted_at + 1
            await wait_until_async(
                lambda: len(workers.served_since(settled_at)) == WORKERS,
                3,
                message="every worker is still served",
            )
            for task in working:
                task.cancel()

        late = [
            request.error
            for request in workers.requests
            if request.ended > settled_at and request.error
        ]
        assert late == []
        waits = [
            (request.ended if request.acquired is None else request.acquired) - request.started
            for request in workers.requests
        ]
        assert max(waits) < ACQUIRE_TIMEOUT + 0.1
        assert database.stats().lost > 0  # it has been noticed
        await wait_until_async(lambda: database.stats().in_use == 0, 1)
        assert database.stats().waiting == 0
        assert len(await pids(database, 10)) == 10
