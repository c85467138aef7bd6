"""Every example lives a whole life in a real server, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import asyncpg
import pytest

from tests.servers.watching import (
    ENDED_BY_SIGTERM,
    PASSWORD,
    assert_nobody_connected,
    sessions,
    uvicorn,
    with_password,
)
from tests.support.loop_thread import LoopThread
from tests.support.observer import OBSERVER_NAME
from tests.support.postgres import PostgresServer
from tests.support.servers import UvicornProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.postgres]

APPLICATIONS = {
    "starlette": "examples.starlette_app:app",
    "fastapi": "examples.fastapi_app:app",
    "esmerald": "examples.esmerald_app:app",
    "django": "examples.django_app:application",
    "hooks": "examples.hooks_app:app",
}
WITHOUT_LIFESPAN = {"django"}

POOL_SIZE = 10
READERS = 30


@dataclass(frozen=True)
class Life:
    """What was seen of one application, from its start to its end."""

    name: str
    tables_after_startup: list[str]
    sessions_after_startup: int
    wrote: list[str]
    read: list[str]
    statuses_under_load: set[int]
    sessions_under_load: int
    sessions_after_load: int
    returncode: int
    log: str


@pytest.fixture(scope="module", params=APPLICATIONS)
def life(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Life]:
    """One life of each application. Nobody may be connected to its database when it is over."""
    name: str = request.param
    with postgres.database() as url:
        life = live(name, postgres, url)
        assert_nobody_connected(postgres, url)
        yield life


def live(name: str, postgres: PostgresServer, url: str) -> Life:
    with uvicorn(APPLICATIONS[name], {"DATABASE_URL": with_password(url)}) as server:
        tables = tables_in(postgres, url)
        after_startup = len(sessions(postgres, url))
        server.post("/notes", {"text": "buy milk"}).raise_for_status()
        wrote = server.post("/notes", {"text": "drink it"}).raise_for_status().json()
        read = server.get("/notes").raise_for_status().json()
        statuses, under_load = read_while_locked(server, postgres, url)
        after_load = len(sessions(postgres, url))
        server.terminate()
        returncode = server.wait(10)
    return Life(
        name,
        tables,
        after_startup,
        wrote,
        read,
        statuses,
        under_load,
        after_load,
        returncode,
        server.log,
    )


def read_while_locked(
    server: UvicornProcess, postgres: PostgresServer, url: str
) -> tuple[set[int], int]:
    """The answers to many readers at once, and how many sessions there were while all waited."""

    def read(_: int) -> int:
        return server.get("/notes").status_code

    def waiting() -> int:
        found = postgres.fetch(
            "SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'",
            url.rpartition("/")[2],
        )
        return len(found)

    with ThreadPoolExecutor(READERS, "test-reader") as threads:
        with locked_table(url):
            answers = threads.map(read, range(READERS))
            wait_until(lambda: waiting() >= POOL_SIZE, 10, message="the pool is used up")
            connected = len(sessions(postgres, url))
        return set(answers), connected


@contextmanager
def locked_table(url: str) -> Iterator[None]:
    async def lock() -> asyncpg.Connection[asyncpg.Record]:
        # By the observer's name, so that it is not counted among the application's sessions.
        connection = await asyncpg.connect(url, server_settings={"application_name": OBSERVER_NAME})
        await connection.execute("BEGIN; LOCK TABLE example_notes IN ACCESS EXCLUSIVE MODE")
        return connection

    with LoopThread("test-lock") as thread:
        connection = thread.run(lock())
        try:
            yield
        finally:
            thread.run(connection.close())


def tables_in(postgres: PostgresServer, url: str) -> list[str]:
    rows = postgres.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        database=url.rpartition("/")[2],
    )
    return [row["tablename"] for row in rows]


def test_what_was_written_is_read(life: Life) -> None:
    assert life.wrote == life.read == ["buy milk", "drink it"]


def test_its_own_startup_code_has_created_the_tables(life: Life) -> None:
    assert life.tables_after_startup == ([] if life.name in WITHOUT_LIFESPAN else ["example_notes"])


def test_it_is_connected_before_the_first_request(life: Life) -> None:
    assert life.sessions_after_startup == 1


def test_the_pool_grows_to_its_size_and_not_further(life: Life) -> None:
    assert life.sessions_under_load == life.sessions_after_load == POOL_SIZE


def test_requests_beyond_the_pool_size_are_answered_too(life: Life) -> None:
    assert life.statuses_under_load == {HTTPStatus.OK}


def test_its_own_shutdown_code_can_query(life: Life) -> None:
    counted = "2 notes at shutdown" in life.log
    assert counted is (life.name not in WITHOUT_LIFESPAN)


def test_it_disconnects_after_its_own_shutdown_code(life: Life) -> None:
    own, said, _ = life.log.partition("disconnected: 10 closed, 0 cancelled, 0 cut")
    assert said, life.log
    assert "notes at shutdown" in own or life.name in WITHOUT_LIFESPAN


def test_it_ends_in_order_after_sigterm(life: Life) -> None:
    assert life.returncode == ENDED_BY_SIGTERM
    assert "Application shutdown complete." in life.log


@pytest.mark.parametrize("unwanted", ["Traceback", "Warning", "ERROR", PASSWORD])
def test_the_log_has_nothing_to_complain_about_and_no_secret(life: Life, unwanted: str) -> None:
    assert unwanted not in life.log
