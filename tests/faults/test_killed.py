"""A process that is gone without a word, while the server works for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from asgi_dbconn import Database
from tests.support.leftovers import wait_until
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]

SHOW = text("SHOW client_connection_check_interval")


def test_the_server_stops_working_for_a_process_that_was_killed(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 55, with an interval of half a second."""
    name = postgres_url.rpartition("/")[2]

    def sleeping() -> list[str]:
        found = postgres.sessions(database=name)
        return [row.query for row in found if row.state == "active" and "sleep" in row.query]

    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.killed", postgres_url], cwd=ROOT
    )
    try:
        wait_until(sleeping, 20)
    finally:
        process.kill()
        process.wait(10)
    wait_until(lambda: not sleeping(), 0.5 + 1.0)


@pytest.mark.parametrize("reset", ["rollback", "full"])
async def test_every_connection_is_watched(postgres_url: str, reset: str) -> None:
    async with Database(postgres_url, pool_size=1, reset=reset) as database:  # type: ignore[arg-type]
        for _ in range(2):
            async with database.connection() as connection:
                assert (await connection.execute(SHOW)).scalar_one() == "10s"


async def test_a_session_of_pgbouncer_is_left_as_it_is(postgres_url: str) -> None:
    async with Database(postgres_url, pgbouncer=True) as database:
        async with database.connection() as connection:
            assert (await connection.execute(SHOW)).scalar_one() == "0"
