"""After a fork parent and children all go on, each with connections of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import pytest

from tests.faults.backends import backends
from tests.support.environments import ROOT
from tests.support.postgres import PostgresServer
from tests.support.processes import is_running
from tests.support.server_kinds import GunicornProcess
from tests.support.servers import ServerProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres


def forked(way: str, url: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.faults.forking", way, url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    return json.loads(ran.stdout)


def test_the_child_of_a_parent_with_idle_connections_opens_its_own(postgres_url: str) -> None:
    """Scenario 47."""
    saw = forked("idle", postgres_url)

    assert saw["before"] == saw["after"]
    assert saw["child"]["status"] == 0
    assert saw["child"]["answer"]["connected"] is True
    assert saw["child"]["answer"]["backend"] not in saw["before"]


def test_a_query_of_the_parent_survives_a_fork(postgres_url: str) -> None:
    """Scenario 49."""
    saw = forked("busy", postgres_url)

    assert saw["result"] == 7
    assert saw["child"]["status"] == 0


def test_children_forked_from_a_connected_parent_have_distinct_backends(postgres_url: str) -> None:
    """Scenario 48."""
    saw = forked("preload", postgres_url)

    assert saw["parent"] == saw["again"]
    workers = {worker["answer"] for worker in saw["workers"]}
    assert len(workers | {saw["parent"]}) == 4
    assert {worker["status"] for worker in saw["workers"]} == {0}


def test_a_program_that_ends_with_its_database_says_nothing() -> None:
    """What is told of forks holds on to it weakly, and must not trip over the end of modules."""
    program = "from asgi_dbconn import Database; database = Database('sqlite://')"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=30)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


@pytest.mark.server
@pytest.mark.parametrize(
    "at_import", [{"CONNECT_AT_IMPORT": "yes"}, {}], ids=["connected at import", "not connected"]
)
def test_preloaded_workers_of_gunicorn_have_distinct_backends(
    postgres: PostgresServer, postgres_url: str, at_import: dict[str, str]
) -> None:
    """Scenario 48, with the server that people preload."""
    with GunicornProcess(
        "tests.faults.preloading:app",
        cwd=ROOT,
        env={"DATABASE_URL": postgres_url, **at_import},
        args=["--preload", "--workers", "3"],
    ) as server:
        answers = ask_until_all_have_answered(server, workers=3)
        before = backends(postgres, postgres_url)
        server.terminate()
        assert server.wait(15) == 0
        wait_until(lambda: not backends(postgres, postgres_url), 1.0)

    assert {answer["imported in"] for answer in answers} == {server.pid}
    (at_the_parents,) = {answer["backend at import"] for answer in answers}
    pairs = {(answer["worker"], answer["backend"]) for answer in answers}
    assert len(pairs) == 3  # each worker has kept its one connection
    of_workers = {backend for _, backend in pairs}
    assert len(of_workers) == 3
    assert at_the_parents not in of_workers
    # Nobody opened more, and what was opened at import is still there.
    assert before == of_workers | ({at_the_parents} if at_import else set())
    assert not [pid for pid, _ in pairs if is_running(pid)]
    assert "Traceback" not in server.log


def ask_until_all_have_answered(server: ServerProcess, workers: int) -> list[dict[str, Any]]:
    """The answers to all requests, of which there are as many as it takes to reach all workers."""
    answers: list[dict[str, Any]] = []

    def all_have_answered() -> bool:
        for response in clients.map(lambda _: server.get("/"), range(12)):
            assert response.status_code == HTTPStatus.OK, server.log
            answers.append(response.json())
        return len({answer["worker"] for answer in answers}) == workers

    with ThreadPoolExecutor(6, "client") as clients:
        wait_until(all_have_answered, 20, message=lambda: server.log)
    return answers
