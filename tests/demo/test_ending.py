"""The demo ends as it began: no process, no file, and no connection stays."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.demo.demo_process import DemoProcess
from tests.support.ports import bound_socket
from tests.support.servers import ServerExited

pytestmark = pytest.mark.server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_without_a_trace(tmp_path: Path, number: signal.Signals) -> None:
    with DemoProcess(tmp_path) as demo:
        demo.post("/notes", {"text": "buy milk"}).raise_for_status()
        (folder,) = demo.temporary.glob("asgi-dbconn-demo-*")
        assert {"notes.sqlite", "audit.sqlite"} < {path.name for path in folder.iterdir()}
        os.kill(demo.pid, number)
        assert demo.wait(10) == 0
        assert demo.files() == set()
        assert_nothing_runs(demo)
    assert "Traceback" not in demo.log
    assert "notes at the end: 1" in demo.log


def test_both_databases_are_connected_before_it_serves_and_disconnected_at_the_end(
    tmp_path: Path,
) -> None:
    with DemoProcess(tmp_path) as demo:
        before, _, _ = demo.log.partition("Application startup complete.")
        for name in ("default", "audit"):
            assert f"database {name!r} " in before
        assert before.count(") connected") == 2
        demo.interrupt()
        demo.wait(10)
    _, _, after = demo.log.partition("notes at the end")
    for name in ("default", "audit"):
        assert f"database {name!r} " in after
    assert after.count("disconnected: 1 closed, 0 cancelled, 0 cut") == 2


def test_a_database_of_the_users_own_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept.sqlite"
    env = {"NOTES_DATABASE_URL": f"sqlite:///{kept}"}
    with DemoProcess(tmp_path, env=env) as demo:
        demo.post("/notes", {"text": "keep this"}).raise_for_status()
        demo.interrupt()
        assert demo.wait(10) == 0
        assert demo.files() == set()
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("keep this",)]


def test_a_port_that_is_taken_ends_it_with_a_reason_and_without_a_trace(tmp_path: Path) -> None:
    with bound_socket() as taken:
        taken.listen()
        demo = DemoProcess(tmp_path, args=("--port", str(taken.getsockname()[1])))
        with pytest.raises(ServerExited, match="address already in use") as caught, demo:
            pass
    assert caught.value.returncode > 0
    assert "Notes are served at" not in caught.value.log
    assert "Traceback" not in caught.value.log
    assert caught.value.log.count(" disconnected: ") == 2
    assert demo.files() == set()
    assert_nothing_runs(demo)


def assert_nothing_runs(demo: DemoProcess) -> None:
    """Raise Failed if the process, or one that it started, still runs."""
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
