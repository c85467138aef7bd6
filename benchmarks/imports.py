"""What it costs to import the package, and to start its command."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.harness import Contender, Effort, Spent, compare_now
from benchmarks.report import Outcome
from benchmarks.targets import Target, as_data, target_table

__all__ = ["run"]

_FULL: Final = Effort(rounds=20, batch=0.01)
_QUICK: Final = Effort(rounds=5, batch=0.01)

PYTHON: Final = "Python alone"
PACKAGE: Final = "import asgi_dbconn"
BOTH: Final = "import click, asgi_dbconn"
HELP: Final = "asgi-dbconn --help"

PROGRAMS: Final = {
    PYTHON: ("-c", "pass"),
    PACKAGE: ("-c", "import asgi_dbconn"),
    "import click": ("-c", "import click"),
    BOTH: ("-c", "import click, asgi_dbconn"),
    HELP: ("-m", "asgi_dbconn", "--help"),
    "import starlette.applications": ("-c", "import starlette.applications"),
    "import sqlalchemy.ext.asyncio": ("-c", "import sqlalchemy.ext.asyncio"),
    "from asgi_dbconn import Settings": ("-c", "from asgi_dbconn import Settings"),
    "from asgi_dbconn import Registry": ("-c", "from asgi_dbconn import Registry"),
}


def run(*, quick: bool) -> Outcome:
    """Start a process for each program, again and again."""
    contenders = [
        Contender(name, partial(_start, arguments)) for name, arguments in PROGRAMS.items()
    ]
    effort = _QUICK if quick else _FULL
    comparison = compare_now(
        "A process from its start to its end", contenders, effort, baseline=PYTHON
    )
    ratios = comparison.ratios(HELP, BOTH)
    targets = [Target(f"{HELP}, times {BOTH}", ratios, "<=", 1.2, "x")]
    return Outcome([comparison], [target_table(targets)], {"targets": as_data(targets)})


def _start(arguments: Sequence[str], times: int) -> Spent:
    before, started = _children(), time.perf_counter()
    for _ in range(times):
        subprocess.run(
            [sys.executable, *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True
        )
    return Spent(time.perf_counter() - started, _children() - before)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
