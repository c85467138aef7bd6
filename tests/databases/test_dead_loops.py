"""Loops that end at a bad moment; those that nobody ends are in tests/faults."""

from __future__ import annotations

import asyncio

import pytest

from asgi_dbconn import Database
from tests.support.leftovers import wait_until
from tests.support.postgres import PostgresServer


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
