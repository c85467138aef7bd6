"""A cluster leaves nothing behind, however the process that started it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres_cluster import PostgresCluster
from tests.support.postgres_install import copy_install, find_install, is_reachable, server_account
from tests.support.processes import is_running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).parents[3]

STARTS_AND_WAITS = """
import signal, sys
from tests.support.postgres_cluster import PostgresCluster
cluster = PostgresCluster()
cluster.start()
print(cluster.directory, cluster.pid, flush=True)
sys.stdin.read()
"""


def test_remove_ends_the_process_and_deletes_the_files() -> None:
    cluster = PostgresCluster()
    cluster.start()
    pid, directory = cluster.pid, cluster.directory
    assert pid is not None
    assert is_running(pid)
    assert (directory / "data").is_dir()
    cluster.remove()
    assert not is_running(pid)
    assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_that_ends_the_tests_ends_the_server_too(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        directory, pid = process.stdout.readline().split()
        assert is_running(int(pid))
        process.send_signal(number)
        assert process.wait(10) != 0
    wait_until(lambda: not is_running(int(pid)), 10)
    wait_until(lambda: not Path(directory).exists(), 10)


def test_a_taken_port_is_exchanged_before_anybody_knows_it() -> None:
    first, second = PostgresCluster(), PostgresCluster()
    try:
        first.start()
        second.port = first.port
        second.start()
        assert second.port != first.port
    finally:
        first.remove()
        second.remove()


def test_a_server_that_cannot_start_again_shows_its_log() -> None:
    cluster = PostgresCluster()
    try:
        cluster.start()
        cluster.stop()
        (cluster.directory / "data" / "global" / "pg_control").unlink()
        with pytest.raises(RuntimeError, match="could not find the database system"):
            cluster.start()
    finally:
        cluster.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_an_unreachable_install_is_copied(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    install = copy_install(find_install(), closed)
    closed.chmod(0o700)
    assert not is_reachable(install, server_account())
    cluster = PostgresCluster(install)
    try:
        assert not cluster.programs.is_relative_to(closed)
        # So it cannot be the original that runs.
        shutil.rmtree(closed)
        cluster.start()
    finally:
        cluster.remove()
    assert not cluster.programs.exists()
