"""No server serves an application whose database is dead: it ends, and its log says why."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import pytest

from tests.servers.kinds import WITH_LIFESPAN, Kind
from tests.servers.watching import PASSWORD
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import ServerProcess, UvicornProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.server

TWO_WORKERS = Kind("uvicorn --workers 2", UvicornProcess, ("--workers", "2"))

# Hypercorn ends with 0 in any case (its issue 269), and so does uvicorn's supervisor of workers.
FAILS_ITS_CALLER = {"uvicorn", "uvicorn --lifespan on", "granian", "gunicorn"}


@dataclass(frozen=True)
class FailedStart:
    """A server that could not connect, and what its clients got in the meantime."""

    kind: Kind
    address: str
    returncode: int
    statuses: set[int]
    log: str


@pytest.fixture(scope="module", params=[*WITH_LIFESPAN, TWO_WORKERS], ids=str)
def failed(request: pytest.FixtureRequest) -> FailedStart:
    kind: Kind = request.param
    address = f"{LOOPBACK}:{free_port()}/billing"
    env = {
        "DATABASE_URL": f"postgresql://alice:{PASSWORD}@{address}",
        "STARTUP_TIMEOUT": "1",
    }
    server = kind.serve(env)
    with server.starting():
        statuses = statuses_until_the_end(server)
        returncode = server.wait(0)
    return FailedStart(kind, address, returncode, statuses, server.log)


def statuses_until_the_end(server: ServerProcess) -> set[int]:
    """What it answers to a request that needs no database, wherever it listens."""
    statuses: set[int] = set()

    def ended() -> bool:
        for port in server.ports():
            statuses.update(status_of(f"http://{LOOPBACK}:{port}/alive"))
        return server.returncode is not None

    wait_until(ended, 20, message=lambda: f"the server ends:\n{server.log}")
    return statuses


def status_of(url: str) -> list[int]:
    try:
        return [httpx.get(url, timeout=0.2, trust_env=False).status_code]
    except httpx.TransportError:
        return []


def test_nothing_is_ever_served(failed: FailedStart) -> None:
    """Scenario 39: the process has ended, and no request was answered before."""
    assert failed.statuses == set()
    assert "the inner application starts" not in failed.log


def test_the_log_names_the_database_and_not_its_password(failed: FailedStart) -> None:
    """Scenario 39: a person can act on the message."""
    assert "Database 'default'" in failed.log
    assert f"alice:***@{failed.address}" in failed.log
    assert "startup_timeout is over" in failed.log
    assert PASSWORD not in failed.log


def test_the_exit_code_says_so(failed: FailedStart) -> None:
    """Scenario 39, on the servers that pass it on; none of them had to be killed."""
    assert failed.returncode >= (1 if failed.kind.name in FAILS_ITS_CALLER else 0)
