"""Test databases go also when a run does not end well."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.testing.left_over import databases_made_from, files_in, new_name
from tests.testing.projects import Project

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

STUCK = """
import os, pathlib, threading

def test_stuck(dbconn_rollback):
    pathlib.Path(os.environ["SEEN"], "stuck").touch()
    threading.Event().wait(40)
"""
KILLED = """
import os, signal

def test_killed(dbconn_rollback):
    os.kill(os.getpid(), signal.SIGKILL)
"""

Left = Callable[[], list[str]]


@pytest.fixture
def name() -> str:
    return new_name()


@pytest.fixture
def project(tmp_path: Path, postgres: PostgresServer, name: str) -> Project:
    return Project.copied_to(tmp_path, postgres.url_for(name))


@pytest.fixture
def left(project: Project, postgres: PostgresServer, name: str) -> Iterator[Left]:
    def left() -> list[str]:
        return databases_made_from(postgres, name) + files_in(project.temporary)

    yield left
    assert left() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_interrupt_from_the_keyboard(project: Project, left: Left, workers: int) -> None:
    project.write_test("test_stuck.py", STUCK)
    running = project.start("tests/test_stuck.py", "-p", "no:asyncio", "-n", str(workers))
    try:
        project.wait_for("stuck")
        assert left()
        os.killpg(running.pid, signal.SIGINT)
        output, _ = running.communicate(timeout=40)
    finally:
        running.kill()

    assert running.returncode == pytest.ExitCode.INTERRUPTED, output


def test_after_a_worker_was_killed(project: Project, left: Left) -> None:
    project.write_test("test_killed.py", KILLED)

    arguments = ["tests/test_killed.py", "tests/test_sync.py", "-p", "no:asyncio", "-n", "2"]
    output = project.run(arguments, code=pytest.ExitCode.TESTS_FAILED)

    assert "1 failed, 9 passed" in output


def test_after_the_only_process_was_killed_they_are_left_until_they_are_dropped(
    project: Project, left: Left, name: str
) -> None:
    project.write_test("test_killed.py", KILLED)
    project.run(["tests/test_killed.py", "-p", "no:asyncio"], code=-signal.SIGKILL)
    assert len(databases := [path for path in left() if name in path]) == 1

    project.write_test(
        "test_tidy.py",
        """
from asgi_dbconn import run_sync
from asgi_dbconn.testing import drop_left_overs

def test_tidy(dbconn_url):
    for url in (dbconn_url, "sqlite://"):
        print("dropped", run_sync(drop_left_overs(url, older_than=0)))
""",
    )
    output = project.run(["-s", "tests/test_tidy.py", "-p", "no:asyncio"])
    assert databases[0] in output
