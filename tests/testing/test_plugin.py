"""The sample project: both async plugins, in two processes at once, on both kinds of databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.postgres import PostgresServer
from tests.testing.left_over import databases_made_from, files_in, new_name
from tests.testing.projects import Project

pytestmark = pytest.mark.slow

_LOOP_SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
RUNNERS: Final = {
    "anyio": ("-o", "anyio_mode=auto", "-p", "no:asyncio", "--ignore=tests/test_strict.py"),
    "pytest-asyncio": ("--asyncio-mode=auto", *_LOOP_SCOPE, "--ignore=tests/test_strict.py"),
    "both, strict": (*_LOOP_SCOPE, "--ignore=tests/test_async.py"),
}
TESTS: Final = {"anyio": 23, "pytest-asyncio": 23, "both, strict": 18}

MakeProject = Callable[[str], Project]


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Project]:
    project = Project.copied_to(tmp_path, "sqlite:///shop.db")
    yield project
    assert files_in(project.temporary) == []


@pytest.fixture
def on_postgresql(tmp_path: Path, postgres: PostgresServer) -> Iterator[Project]:
    name = new_name()
    project = Project.copied_to(tmp_path, postgres.url_for(name))
    yield project
    assert databases_made_from(postgres, name) == []
    assert files_in(project.temporary) == []  # its second database is in files


@pytest.fixture(params=["on_sqlite", pytest.param("on_postgresql", marks=pytest.mark.postgres)])
def project(request: pytest.FixtureRequest) -> Project:
    project: Project = request.getfixturevalue(request.param)
    return project


@pytest.mark.parametrize("runner", RUNNERS)
def test_two_workers_have_a_database_each(project: Project, runner: str) -> None:
    output = project.run([*RUNNERS[runner], "-n", "2"])

    assert f"{TESTS[runner]} passed" in output
    workers = [worker for worker, _ in project.seen()]
    assert workers == ["gw0", "gw1"]
    for worker, name in project.seen():
        assert re.fullmatch(rf"test_shop\w*_{worker}_[0-9a-f]{{8}}", name)


def test_a_single_process_has_one(project: Project) -> None:
    assert f"{TESTS['both, strict']} passed" in project.run(RUNNERS["both, strict"])

    assert [worker for worker, _ in project.seen()] == ["alone"]


def test_collecting_makes_no_database(on_sqlite: Project) -> None:
    assert f"{TESTS['anyio']} tests collected" in on_sqlite.run(
        [*RUNNERS["anyio"], "--collect-only", "-q"]
    )

    assert on_sqlite.seen() == []
