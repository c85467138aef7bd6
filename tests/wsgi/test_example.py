"""The example for Flask lives a whole life in a real server, on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.servers.watching import PASSWORD, ROOT, assert_nobody_connected, sessions, with_password
from tests.support.postgres import PostgresServer
from tests.wsgi.servers import THREADS, WORKERS, gunicorn

pytestmark = [pytest.mark.server, pytest.mark.postgres]

EXAMPLE = "examples.flask_app"


def test_what_was_written_is_read_by_every_worker(
    postgres: PostgresServer, postgres_url: str
) -> None:
    url = with_password(postgres_url)
    # Its tables are created by a command of its own, which connects without a request.
    strict = [sys.executable, "-W", "error::UserWarning"]
    created = subprocess.run(
        [*strict, "-m", "flask", "--app", EXAMPLE, "create-tables"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (created.returncode, created.stderr) == (0, "")

    with gunicorn(f"{EXAMPLE}:app", url) as server:
        server.post("/notes", {"text": "buy milk"}).raise_for_status()
        wrote = server.post("/notes", {"text": "drink it"}).raise_for_status().json()
        assert wrote == ["buy milk", "drink it"]
        for _ in range(WORKERS * THREADS):
            assert server.get("/notes").json() == wrote
        assert 1 <= len(sessions(postgres, postgres_url)) <= WORKERS
        server.terminate()
        assert server.wait(10) == 0
        assert_nobody_connected(postgres, postgres_url)
    for unwanted in ("Traceback", "Warning", "ERROR", PASSWORD):
        assert unwanted not in server.log
