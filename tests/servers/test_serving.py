"""A server that is told to end while it serves ends in order, with one process or with several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus

import httpx
import pytest

from tests.servers.watching import (
    ENDED_BY_CTRL_C,
    ENDED_BY_SIGTERM,
    assert_nobody_connected,
    sessions,
    sleeping,
    uvicorn,
)
from tests.support.postgres import PostgresServer
from tests.support.processes import is_running
from tests.support.servers import ServerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.postgres]

SLOW = "tests.servers.apps.slow:app"

Ask = Callable[[ServerProcess, str], "Future[httpx.Response]"]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Ask a server in a thread, so that the test can do something before the answer comes."""
    with ThreadPoolExecutor(8, "test-client") as threads:
        yield lambda server, path: threads.submit(server.get, path)


def test_a_request_in_flight_is_answered_before_the_databases_go(
    postgres: PostgresServer, postgres_url: str, ask: Ask
) -> None:
    with uvicorn(SLOW, {"DATABASE_URL": postgres_url}) as server:
        answer = ask(server, "/sleep/1.0")
        wait_until(lambda: sleeping(postgres, postgres_url), 5, message="the query runs")
        server.terminate()
        response = answer.result(10)
        assert (response.status_code, response.json()["slept"]) == (HTTPStatus.OK, 1.0)
        assert server.wait(10) == ENDED_BY_SIGTERM
    assert_nobody_connected(postgres, postgres_url)
    shutting_down = server.log.index("Shutting down")
    answered = server.log.index('"GET /sleep/1.0 HTTP/1.1" 200')
    disconnected = server.log.index("disconnected: 1 closed, 0 cancelled, 0 cut")
    assert shutting_down < answered < disconnected
    assert "Traceback" not in server.log


def test_a_second_ctrl_c_ends_the_query_on_the_server_too(
    postgres: PostgresServer, postgres_url: str, ask: Ask
) -> None:
    env = {"DATABASE_URL": postgres_url, "SHUTDOWN_TIMEOUT": "0.2"}
    with uvicorn(SLOW, env) as server:
        answer = ask(server, "/sleep/60.0")
        wait_until(lambda: sleeping(postgres, postgres_url), 5, message="the query runs")
        server.interrupt()
        wait_until(lambda: "CTRL+C to force quit" in server.log, 5, message=lambda: server.log)
        server.interrupt()
        assert server.wait(10) == ENDED_BY_CTRL_C
        assert answer.exception(10) is not None or answer.result().is_server_error
    assert_nobody_connected(postgres, postgres_url)
    # What the application gets is the cancellation, not an error that hides it.
    assert "CancelledError" in server.log
    assert "PendingRollbackError" not in server.log


def test_every_worker_has_a_pool_of_its_own_and_leaves_nothing(
    postgres: PostgresServer, postgres_url: str, ask: Ask
) -> None:
    with uvicorn(SLOW, {"DATABASE_URL": postgres_url}, "--workers", "2") as server:
        wait_until(
            lambda: server.log.count("Application startup complete.") == 2,
            15,
            message=lambda: server.log,
        )
        workers = {int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log)}
        assert len(workers) == 2
        assert names_of_sessions(postgres, postgres_url) == sorted(
            f"worker {pid}" for pid in workers
        )
        answers = [ask(server, "/sleep/0.05") for _ in range(8)]
        assert {answer.result(10).status_code for answer in answers} == {HTTPStatus.OK}
        assert {answer.result().json()["worker"] for answer in answers} <= workers
        names = names_of_sessions(postgres, postgres_url)
        assert all(1 <= names.count(f"worker {pid}") <= 2 for pid in workers), names
        server.terminate()
        assert server.wait(10) == 0
    assert_nobody_connected(postgres, postgres_url)
    assert not [pid for pid in workers if is_running(pid)]
    assert server.log.count(" disconnected: ") == 2
    assert "Traceback" not in server.log


def names_of_sessions(postgres: PostgresServer, url: str) -> list[str]:
    return sorted(session.application_name for session in sessions(postgres, url))
