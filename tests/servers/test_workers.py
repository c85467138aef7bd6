"""Each worker process has a life of its own, and so has each version of a reloaded source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.kinds import GRANIAN, GUNICORN, HYPERCORN, UVICORN, Kind, on_each
from tests.servers.watching import ROOT, assert_nobody_connected, lives, sessions
from tests.support.postgres import PostgresServer
from tests.support.servers import UvicornProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.postgres]

IN_ORDER = "disconnected: 1 closed, 0 cancelled, 0 cut"


@on_each(UVICORN, HYPERCORN, GRANIAN, GUNICORN)
def test_each_worker_connects_once_and_disconnects_once(
    kind: Kind, postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 43."""
    with kind.serve({"DATABASE_URL": postgres_url}, "--workers", "2") as server:
        wait_until(
            lambda: server.log.count("the inner application starts") == 2,
            15,
            message=lambda: server.log,
        )
        assert len(sessions(postgres, postgres_url)) == 2
        server.terminate()
        server.wait(15)
        assert_nobody_connected(postgres, postgres_url)
    assert sorted(lives(server.log)) == ["connected", "connected", IN_ORDER, IN_ORDER]


def test_a_touched_source_file_disconnects_and_connects_again(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 43: `uvicorn --reload`."""
    source = tmp_path / "served.py"
    source.write_text("from tests.servers.apps.observed import app as app\n")
    env = {"DATABASE_URL": postgres_url, "PYTHONPATH": str(ROOT)}
    args = ["--reload", "--reload-dir", str(tmp_path)]
    with UvicornProcess("served:app", cwd=tmp_path, env=env, args=args) as server:
        wait_until(lambda: lives(server.log) == ["connected"], 15, message=lambda: server.log)

        def reloads() -> bool:
            source.touch()  # again and again: the reloader may not have had its first look yet
            return "Reloading..." in server.log

        wait_until(reloads, 15, message=lambda: server.log)
        wait_until(
            lambda: lives(server.log)[-1] == "connected" and len(lives(server.log)) > 1,
            15,
            message=lambda: server.log,
        )
        assert server.get("/where").is_success
        server.terminate()
        server.wait(15)
        assert_nobody_connected(postgres, postgres_url)
    written = lives(server.log)
    assert len(written) >= 4
    assert written == ["connected", IN_ORDER] * (len(written) // 2)
