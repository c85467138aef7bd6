"""Servers that run no lifespan: one warning that says why, or a connect at the first request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import httpx
import pytest

from tests.servers.kinds import WITHOUT_LIFESPAN, Kind, on_each
from tests.servers.watching import assert_nobody_connected, lives, name_in, sessions
from tests.support.postgres import PostgresServer, Session

pytestmark = [pytest.mark.server, pytest.mark.postgres]

CAUSE = "A request came without a lifespan"
FIRST_REQUESTS = 20


@dataclass(frozen=True)
class Unconnected:
    """A server without a lifespan, which shows every warning, and its answers."""

    kind: Kind
    database: str
    answers: list[httpx.Response]
    sessions: list[Session]
    log: str


@pytest.fixture(scope="module", params=WITHOUT_LIFESPAN, ids=str)
def unconnected(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Unconnected]:
    kind: Kind = request.param
    with postgres.database() as url:
        with kind.serve({"DATABASE_URL": url, "PYTHONWARNINGS": "always"}) as server:
            answers = [server.get("/where") for _ in range(3)]
            left = sessions(postgres, url)
        yield Unconnected(kind, name_in(url), answers, left, server.log)


def test_requests_are_answered_all_the_same(unconnected: Unconnected) -> None:
    """Scenarios 44 and 45: an engine for each query; daphne calls us with keywords."""
    assert {answer.status_code for answer in unconnected.answers} == {HTTPStatus.OK}
    assert {answer.json()["database"] for answer in unconnected.answers} == {unconnected.database}
    assert unconnected.sessions == []
    assert lives(unconnected.log) == []
    assert "the inner application starts" not in unconnected.log


def test_the_cause_is_written_once_and_not_for_each_request(
    unconnected: Unconnected,
) -> None:
    """Scenario 45."""
    assert unconnected.log.count(CAUSE) == 1
    assert "with its lifespan off or has none (daphne)" in unconnected.log
    assert "models.asgi(app)" in unconnected.log


@on_each(*WITHOUT_LIFESPAN)
def test_concurrent_first_requests_connect_once(
    kind: Kind, postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 46."""
    env = {"DATABASE_URL": postgres_url, "WITHOUT_LIFESPAN": "connect"}
    with kind.serve(env) as server:
        with ThreadPoolExecutor(FIRST_REQUESTS) as threads:
            answers = list(threads.map(server.get, ["/where"] * FIRST_REQUESTS))
        assert {answer.status_code for answer in answers} == {HTTPStatus.OK}
        assert {answer.json()["database"] for answer in answers} == {name_in(postgres_url)}
        assert lives(server.log) == ["connected"]
        assert sessions(postgres, postgres_url) != []
        server.terminate()
        server.wait(15)
        assert_nobody_connected(postgres, postgres_url)
    assert "DatabaseNotConnectedWarning" not in server.log


@on_each(*WITHOUT_LIFESPAN)
def test_requests_can_be_refused_instead(kind: Kind) -> None:
    """Scenario 45, with without_lifespan="error": whoever reads the log learns the cause."""
    env = {"DATABASE_URL": "sqlite:///never-made.sqlite", "WITHOUT_LIFESPAN": "error"}
    with kind.serve(env) as server:
        assert [server.get("/alive").status_code for _ in range(2)] == [500, 500]
    assert CAUSE in server.log
