"""Forks, the end of the interpreter, Ctrl-C and full descriptor tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.loops.situations import KINDS

ROOT = Path(__file__).parents[2]
each_kind = pytest.mark.parametrize("kind", sorted(KINDS))
SUBLOOP = "asgi-dbconn subloop"


def run_program(*arguments: str) -> tuple[Any, str]:
    """What it printed, and what else it said."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.loops.programs", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), ran.stderr


@each_kind
def test_a_child_makes_subloops_of_its_own(kind: str) -> None:
    """Scenario 40."""
    assert run_program("fork_beside_a_subloop", kind) == ([SUBLOOP] * 4, "")


@each_kind
def test_a_child_has_no_environment_of_its_parents(kind: str) -> None:
    """Scenario 43."""
    saw = [[True, True, True, "MainThread"], "MainThread"]
    assert run_program("fork_inside_an_environment", kind) == (saw, "")


def test_a_loop_whose_thread_stayed_with_the_parent_is_gone() -> None:
    saw = ["gone", "the other thread"]
    assert run_program("fork_beside_a_running_loop", "asyncio") == (saw, "")


@each_kind
def test_code_that_runs_at_exit_may_wait_too(kind: str) -> None:
    """Scenario 41. Late in the exit no thread can be started any more, from Python 3.12 on."""
    saw, said = run_program("at_exit", kind)

    assert saw == "exiting"
    answers = [json.loads(line) for line in said.splitlines()]
    assert len(answers) == 2
    assert {alone for alone, _ in answers} == {"MainThread"}
    assert {below for _, below in answers} <= {SUBLOOP, "MainThread"}


@each_kind
def test_a_subloop_is_ended_when_the_program_exits(kind: str) -> None:
    """Scenario 41."""
    assert run_program("exit_with_a_subloop", kind) == ("exiting", "unwound\n")


def test_without_descriptors_it_fails_and_does_not_hang() -> None:
    """Scenario 42."""
    saw, _ = run_program("no_descriptors", "asyncio")
    assert saw == [24, 24, SUBLOOP]


@each_kind
@pytest.mark.parametrize("place", ["nowhere", "idle", "below", "elsewhere"])
def test_ctrl_c_cancels_the_work(kind: str, place: str) -> None:
    """Scenario 31."""
    saw = ["cancelled", "KeyboardInterrupt", True]
    assert run_program("ctrl_c", kind, place) == (saw, "")


@each_kind
def test_ctrl_c_leaves_nothing_on_the_users_loop(kind: str) -> None:
    """Scenario 31."""
    saw = ["unwound", "KeyboardInterrupt", 0, "MainThread"]
    assert run_program("ctrl_c_on_an_idle_loop", kind) == (saw, "")


@each_kind
@pytest.mark.parametrize("slowly", ["", "slowly"])
def test_the_first_press_counts_below_asyncio_run(kind: str, slowly: str) -> None:
    """Scenario 46."""
    saw = ["cancelled", True, "KeyboardInterrupt"]
    assert run_program("ctrl_c_below_asyncio_run", kind, *[slowly] * bool(slowly)) == (saw, "")
