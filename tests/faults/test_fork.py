"""After a fork parent and child both go on, each with connections of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]


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
    """47."""
    saw = forked("idle", postgres_url)

    assert saw["before"] == saw["after"]
    assert saw["child"]["status"] == 0
    assert saw["child"]["answer"]["connected"] is True
    assert saw["child"]["answer"]["backend"] not in saw["before"]


def test_a_query_of_the_parent_survives_a_fork(postgres_url: str) -> None:
    """49."""
    saw = forked("busy", postgres_url)

    assert saw["result"] == 7
    assert saw["child"]["status"] == 0


def test_workers_forked_from_a_connected_parent_have_distinct_backends(postgres_url: str) -> None:
    """48."""
    saw = forked("preload", postgres_url)

    assert saw["parent"] == saw["again"]
    workers = {each["answer"] for each in saw["workers"]}
    assert len(workers | {saw["parent"]}) == 4
    assert {each["status"] for each in saw["workers"]} == {0}
