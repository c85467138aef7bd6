"""Every server ends an application in order: its last request, its own shutdown, its databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import httpx
import pytest

from tests.servers.kinds import (
    GRANIAN,
    HYPERCORN,
    WITH_LIFESPAN,
    Kind,
    hypercorn_loses_patience,
)
from tests.servers.watching import (
    assert_nobody_connected,
    in_order,
    lives,
    name_in,
    sleeping,
    who_stays,
)
from tests.support.postgres import PostgresServer, Session
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.postgres]

GREETING = "hello from the lifespan"
IN_ORDER = "disconnected: 1 closed, 0 cancelled, 0 cut"


@dataclass(frozen=True)
class Life:
    """One server from its start to its end after SIGTERM, and what was seen of it."""

    kind: Kind
    database: str
    answer: httpx.Response
    late_answer: httpx.Response
    log: str
    left: list[Session]


@pytest.fixture(scope="module", params=WITH_LIFESPAN, ids=str)
def life(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Life]:
    kind: Kind = request.param
    with postgres.database() as url, ThreadPoolExecutor(1) as thread:
        with kind.serve({"DATABASE_URL": url}) as server:
            answer = server.get("/where")
            late_answer = thread.submit(server.get, "/sleep/1.0")
            wait_until(lambda: sleeping(postgres, url), 10, message="the query runs")
            server.terminate()
            server.wait(20)
            left = who_stays(postgres, url)
        yield Life(kind, name_in(url), answer, late_answer.result(1), server.log, left)


def test_the_wrapped_application_answers(life: Life) -> None:
    """Scenario 44: each server takes the wrapper for an ASGI 3 application."""
    assert life.answer.status_code == HTTPStatus.OK
    assert life.answer.json()["database"] == life.database
    assert life.answer.json()["greeting"] == GREETING


def test_a_request_in_flight_is_answered_with_its_database(life: Life) -> None:
    """Scenario 40: it even checks out another connection after the signal."""
    assert life.late_answer.status_code == HTTPStatus.OK
    assert life.late_answer.json()["database"] == life.database
    assert in_order(life.log, "the slow request is answered", "application stops", IN_ORDER)


def test_the_application_starts_and_stops_connected(life: Life) -> None:
    """Scenario 42: the line is there at all, so it came before the server's last message."""
    assert lives(life.log) == ["connected", IN_ORDER]
    assert in_order(
        life.log,
        " connected",
        f"the inner application starts in {life.database}",
        f"the inner application stops in {life.database}",
        IN_ORDER,
    )
    assert "Traceback" not in life.log


def test_nobody_is_connected_once_the_server_has_ended(life: Life) -> None:
    """Scenario 42: PostgreSQL has no session of it a second later."""
    assert life.left == []


def test_the_lifespan_state_is_not_needed_to_disconnect(life: Life) -> None:
    """Scenario 56: granian clears the state before it says that the shutdown begins."""
    state = [] if life.kind is GRANIAN else ["greeting"]
    assert in_order(life.log, f"state at shutdown: {state}", IN_ORDER)


@hypercorn_loses_patience
def test_a_request_that_outlasts_the_patience_of_hypercorn(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 40: the server cancels it, PostgreSQL stops working on it, and we disconnect."""
    env = {"DATABASE_URL": postgres_url}
    with (
        ThreadPoolExecutor(1) as thread,
        HYPERCORN.serve(env, "--graceful-timeout", "1") as server,
    ):
        answer = thread.submit(server.get, "/sleep/60.0")
        wait_until(lambda: sleeping(postgres, postgres_url), 10, message="the query runs")
        server.terminate()
        server.wait(10)
        assert_nobody_connected(postgres, postgres_url)
        assert answer.exception(1) is not None or answer.result().is_server_error
    assert "the slow request is answered" not in server.log
    assert in_order(server.log, "the inner application stops", "disconnected: ")
