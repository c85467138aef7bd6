"""Every server ends an application in order: its last request, its own shutdown, its databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import httpx
import pytest

from tests.servers.kinds import GRANIAN, HYPERCORN, WITH_LIFESPAN, Kind
from tests.servers.watching import (
    assert_nobody_connected,
    in_order,
    lives,
    name_in,
    sessions,
    sleeping,
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
            # PostgreSQL may need a moment to notice.
            gone = HALF_A_SECOND if sessions(postgres, url) else 0.0
        yield Life(kind, name_in(url), answer, late_answer.result(1), server.log, [])
