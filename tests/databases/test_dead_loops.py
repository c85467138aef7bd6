"""Loops that die without a word: swept, announced, and never in the way."""

from __future__ import annotations

import asyncio
import gc

import pytest

from asgi_dbconn import Database, UnclosedDatabaseWarning
from tests.support.leftovers import wait_until
from tests.support.postgres import PostgresServer

# What asyncio and asyncpg have to say of such loops is true, and hidden by default.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def test_a_loop_closed_without_a_word_is_swept_and_announced(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url)
    careless = asyncio.new_event_loop()
    careless.run_until_complete(database.connect())
    careless.close()
    assert len(postgres.sessions(database=name)) == 1

    with pytest.warns(UnclosedDatabaseWarning, match="shutdown_asyncgens"):
        asyncio.run(database.ping())
    wait_until(lambda: not postgres.sessions(database=name), 1.0)

    asyncio.run(database.disconnect())
    assert not database.is_connected
    del careless
    gc.collect()  # here, where what it says is expected


def test_an_idle_loop_is_cut_by_a_disconnect_elsewhere(
    postgres: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url)
    idle = asyncio.new_event_loop()
    idle.run_until_complete(database.connect())

    report = asyncio.run(database.disconnect())

    assert report is not None
    assert report.cut == 1
    wait_until(lambda: not postgres.sessions(database=name), 1.0)
    idle.run_until_complete(idle.shutdown_asyncgens())
    idle.close()
    del idle
    gc.collect()


@pytest.mark.parametrize("turns", range(8))
def test_a_loop_that_ends_in_the_midst_of_a_disconnect_leaves_nothing_half_done(
    postgres: PostgresServer, postgres_url: str, turns: int
) -> None:
    name = postgres_url.rpartition("/")[2]
    database = Database(postgres_url)

    async def leave_early() -> None:
        await database.connect()
        leaving = asyncio.create_task(database.disconnect())
        for _ in range(turns):  # asyncio.run cancels everything after so many turns of the loop
            await asyncio.sleep(0)
        del leaving

    asyncio.run(leave_early())

    wait_until(lambda: not postgres.sessions(database=name), 1.0)
    asyncio.run(asyncio.wait_for(database.connect(), 5))
    assert database.is_connected
    asyncio.run(asyncio.wait_for(database.disconnect(force=True), 5))
    assert not database.is_connected
