"""The tests of this folder with Ravyn and the Lilya it needs, in an environment of their own.

Esmerald 3.9.4 answers no request with Lilya 0.24 or later, and Ravyn wants 0.27 or later.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.frameworks.adapters import ENVIRONMENT_VARIABLE
from tests.support import postgres as postgres_server
from tests.support.environments import ROOT, environment
from tests.support.postgres import PostgresServer

REQUIREMENTS = [
    "ravyn>=0.4.3",
    "lilya>=0.27",
    "pytest>=8.4",
    "pytest-timeout>=2.3",
    "anyio>=4.9",
    "httpx>=0.28",
    "httpx2>=2.16",
]
FRAMEWORKS = ("ravyn", "lilya")

# Both are for the first run, which installs; the second takes seconds.
pytestmark = [pytest.mark.timeout(600), pytest.mark.postgres]


@dataclass(frozen=True)
class Run:
    returncode: int
    output: str
    passed: Counter[str]
    """How many tests have passed with each framework."""


@pytest.fixture(scope="session")
def ravyn_python() -> Path:
    return environment("ravyn", REQUIREMENTS, with_project=True)


@pytest.fixture(scope="session")
def run(
    ravyn_python: Path, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """All other tests of this folder, in the other environment, on this run's PostgreSQL."""
    report = tmp_path_factory.mktemp("ravyn") / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    ran = subprocess.run(
        [ravyn_python, "-m", "pytest", "tests/frameworks", f"--ignore={__file__}", *options],
        cwd=ROOT,
        env={
            **os.environ,
            ENVIRONMENT_VARIABLE: ",".join(FRAMEWORKS),
            postgres_server.ENVIRONMENT_VARIABLE: postgres.url,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(ran.returncode, ran.stdout, passed_in(report))


def passed_in(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter()
    passed = Counter[str]()
    for case in ElementTree.parse(report).iter("testcase"):
        framework = case.get("name", "").rstrip("]").rpartition("[")[2].rpartition("-")[2]
        if case.find("skipped") is None:
            passed[framework] += 1
    return passed


def test_everything_holds_there(run: Run) -> None:
    assert run.returncode == 0, run.output


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_was_left_out_there(run: Run, framework: str) -> None:
    """Not that a choice by name went wrong, and all was skipped."""
    assert run.passed[framework] >= 40, run.output
