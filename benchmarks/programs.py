"""Contenders that are programs: they stay alive over a run, and time themselves."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.harness import Spent
from tests.support.environments import ROOT

__all__ = ["MEMORY", "ContenderFailure", "Program", "Running", "keep_on_one_core", "running"]

_PATIENCE: Final = 90.0
"""Seconds without an answer; a program gives itself 60 for an order, and then says what hung."""

# For each packet asyncio asks for 256 KiB and gives most of it back at once. Whether glibc asks the
# system each time depends on what else a process has freed before, its imports for instance; that
# makes the driver alone slower by a half, and others not at all. So everybody is told the same.
MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}


class ContenderFailure(Exception):
    """A contender's program has ended or does not answer; the text is what it complained about."""


@dataclass(frozen=True, slots=True)
class Program:
    """A module of `benchmarks.contenders`, and the interpreter of the environment it runs in."""

    interpreter: Path
    module: str
    arguments: Sequence[str] = ()


def keep_on_one_core(pid: int) -> bool:
    """Let a process, and what it starts from now on, share a core with all others told so.

    False where the system can't. Left to themselves, a client and its server are sometimes on one
    core and sometimes on two, for seconds at a time; to wake the other core costs more than most
    of what is measured.
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})
    return True


class Running:
    """A program that has connected, and waits for orders."""

    def __init__(self, name: str, program: Program, url: str, complaints: IO[bytes]) -> None:
        self.name = name
        self._complaints = complaints
        module = f"benchmarks.contenders.{program.module}"
        self._process = subprocess.Popen(
            [str(program.interpreter), "-m", module, url, *program.arguments],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        keep_on_one_core(self._process.pid)
        try:
            self.versions: Mapping[str, str] = self._answer()["versions"]
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def do(self, operation: str, times: int, tasks: int = 1) -> Spent:
        """So many turns of one operation, by so many tasks, after one of each that is not timed."""
        answer = self._ask({"do": operation, "times": times, "tasks": tasks})
        return Spent(answer["wall"], answer["cpu"])

    def turns(self, operation: str, times: int) -> int:
        """The same, one after another; gives how many turns there were, with the first one."""
        turns: int = self._ask({"do": operation, "times": times, "tasks": 1})["turns"]
        return turns

    def check(self, key: int) -> Mapping[str, Any]:
        """What the contender sees in the table, and what it changed there."""
        seen: Mapping[str, Any] = self._ask({"do": "check", "key": key})
        return seen

    def close(self) -> None:
        """Tell it to end, and wait until it has. How it ends is nothing that is measured."""
        try:
            self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _ask(self, order: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise self._failure("has ended") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        if not ready:
            raise self._failure(f"has not answered for {_PATIENCE:g} s")
        # One order, one answer: no second line waits in the buffer, where select() can't see it.
        line = self._process.stdout.readline()
        if not line:
            raise self._failure("has ended")
        return json.loads(line)

    def _failure(self, what: str) -> ContenderFailure:
        self._complaints.seek(0)
        return ContenderFailure(f"{self.name} {what}:\n{self._complaints.read().decode()}")


def _environment() -> dict[str, str]:
    # Whatever leads the interpreter to packages of another environment stays here.
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return ours | MEMORY


@contextmanager
def running(programs: Mapping[str, Program], url: str) -> Iterator[Mapping[str, Running]]:
    """Every program, connected to ``url``; all have ended afterwards."""
    with ExitStack() as stack:
        found = {}
        for name, program in programs.items():
            complaints = stack.enter_context(tempfile.TemporaryFile())
            found[name] = Running(name, program, url, complaints)
            stack.callback(found[name].close)
        yield found
