"""What the plugin costs those who do not use it, and how it is told where everything is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.testing.left_over import files_in
from tests.testing.projects import Project

pytestmark = pytest.mark.slow

PLAIN = ("-p", "no:asyncio", "-p", "no:anyio")
ANYIO = ("-p", "no:asyncio", "-o", "anyio_mode=auto")

WHAT_IS_LOADED = """
import json, sys

def test_what_is_loaded():
    print("LOADED", json.dumps(sorted(sys.modules)))
"""

APP = """
import os
from contextlib import asynccontextmanager
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from asgi_dbconn import Queryable, Registry

class Base(Queryable, DeclarativeBase):
    pass

class Word(Base):
    __tablename__ = "words"
    id: Mapped[int] = mapped_column(primary_key=True)

def make_app(models):
    async def count(request):
        await models.query(Word).create()
        return PlainTextResponse(str(await models.query(Word).count()))
    return models.asgi(Starlette(routes=[Route("/", count)]))
"""

COUNTING = """
async def test_one(dbconn_client, dbconn_rollback):
    assert (await dbconn_client.get("/")).text == "1"

async def test_other(dbconn_client, dbconn_rollback):
    assert (await dbconn_client.get("/")).text == "1"
"""

BACKEND = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_pytest_starts_without_importing_anything_heavy(tmp_path: Path) -> None:
    project = Project.written_to(tmp_path, {"test_it.py": WHAT_IS_LOADED})

    output = project.run(["-s", "-W", "error", *PLAIN])

    loaded = json.loads(output.partition("LOADED ")[2].splitlines()[0])
    heavy = {"sqlalchemy", "pydantic", "asyncpg", "aiosqlite", "starlette", "asyncio", "httpx"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded)
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("asgi_dbconn.testing.")}
    assert ours == {"config", "fixtures", "lazy_imports", "plugin"}


def test_nothing_is_automatic(tmp_path: Path) -> None:
    code = "def test_it(request):\n    assert 'dbconn' not in str(request.fixturenames)\n"
    project = Project.written_to(tmp_path, {"test_it.py": code})

    project.run(["-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"])


def test_without_configuration_each_fixture_says_what_is_missing(tmp_path: Path) -> None:
    names = ("database", "registry", "app")
    code = "".join(f"def test_{name}(dbconn_{name}): pass\n" for name in names)
    project = Project.written_to(tmp_path, {"test_it.py": code})

    output = project.run(PLAIN, code=pytest.ExitCode.TESTS_FAILED)

    assert "dbconn_environment = DATABASE_URL" in output
    assert "dbconn_registry = shop.models:models" in output
    assert "dbconn_app = shop.main:app" in output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dbconn_environment = DATABASE_URL", "DATABASE_URL, but this variable is not set"),
        ("dbconn_environment = A=mysql://ada:hush@host/shop", "A, of dbconn_environment"),
    ],
)
def test_a_line_that_cannot_work_stops_pytest(tmp_path: Path, line: str, words: str) -> None:
    project = Project.written_to(tmp_path, {"pytest.ini": f"[pytest]\n{line}\n"})

    output = project.run(PLAIN, code=pytest.ExitCode.USAGE_ERROR)

    assert words in output
    assert "Traceback" not in output
    assert "hush" not in output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dbconn_registry = app:nobody", "cannot be imported"),
        ("dbconn_registry = nowhere:models", "cannot be imported"),
        ("dbconn_registry = app:Word", "is a Registry, not"),
    ],
)
def test_a_registry_that_is_none_is_an_error_of_the_test(
    tmp_path: Path, line: str, words: str
) -> None:
    files = {
        "pytest.ini": f"[pytest]\npythonpath = .\n{line}\n",
        "app.py": APP,
        "test_it.py": "def test_it(dbconn_registry): pass\n",
    }

    output = Project.written_to(tmp_path, files).run(PLAIN, code=pytest.ExitCode.TESTS_FAILED)

    assert words in output


def test_an_application_that_is_made_by_a_function_is_given_in_fixtures(tmp_path: Path) -> None:
    conftest = """
import pytest
from app import Base, make_app
from asgi_dbconn import Registry

@pytest.fixture(scope="session")
def dbconn_url():
    return "sqlite:///words.db"

@pytest.fixture(scope="session")
def dbconn_registry(dbconn_database):
    models = Registry(dbconn_database.url)
    models.adopt_metadata(None, Base.metadata)
    return models

@pytest.fixture(scope="session")
def dbconn_app(dbconn_registry):
    return make_app(dbconn_registry)
"""
    project = Project.written_to(
        tmp_path, {"conftest.py": BACKEND + conftest, "app.py": APP, "test_it.py": COUNTING}
    )

    assert "2 passed" in project.run(["-W", "error", *ANYIO])
    assert files_in(project.temporary) == []


def test_the_instance_of_monkay_says_where_they_are(tmp_path: Path) -> None:
    main = """
from asgi_dbconn import Instance, monkay
models = Registry(os.environ["WORDS_URL"])
models.adopt_metadata(None, Base.metadata)
app = make_app(models)
monkay.set_instance(Instance(registry=models, app=app))
"""
    files = {
        "pytest.ini": "[pytest]\npythonpath = .\ndbconn_environment = WORDS_URL=sqlite://\n",
        "conftest.py": BACKEND + "import app\n",
        "app.py": APP + main,
        "test_it.py": COUNTING,
    }
    project = Project.written_to(tmp_path, files)

    assert "2 passed" in project.run(["-W", "error", *ANYIO])
    assert files_in(project.temporary) == []


def test_a_registry_that_stays_connected_on_a_loop_for_the_session(tmp_path: Path) -> None:
    ini = """[pytest]
pythonpath = .
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
dbconn_environment = WORDS_URL=sqlite://
dbconn_registry = app:models
dbconn_app = app:app
"""
    conftest = """
import pytest

@pytest.fixture(scope="session", autouse=True)
async def connected(dbconn_registry, dbconn_tables):
    async with dbconn_registry:
        yield
"""
    main = """
models = Registry(os.environ["WORDS_URL"])
models.adopt_metadata(None, Base.metadata)
app = make_app(models)
"""
    again = COUNTING.replace("test_one", "test_third").replace("test_other", "test_fourth")
    files = {
        "pytest.ini": ini,
        "conftest.py": conftest,
        "app.py": APP + main,
        "test_it.py": COUNTING,
        "test_again.py": again,
    }
    project = Project.written_to(tmp_path, files)

    assert "4 passed" in project.run(["-W", "error"])
    assert files_in(project.temporary) == []


def test_a_client_without_its_library_says_what_to_install(tmp_path: Path) -> None:
    conftest = """
import sys
sys.modules["httpx"] = None
from app import Base, make_app
from asgi_dbconn import Instance, Registry, monkay
models = Registry("sqlite://")
monkay.set_instance(Instance(registry=models, app=make_app(models)))

@pytest.fixture(scope="session")
def dbconn_url():
    return "sqlite://"

@pytest.fixture(scope="session")
def dbconn_tables():
    return None
"""
    project = Project.written_to(
        tmp_path, {"conftest.py": BACKEND + conftest, "app.py": APP, "test_it.py": COUNTING}
    )

    output = project.run(ANYIO, code=pytest.ExitCode.TESTS_FAILED)

    assert "pip install httpx" in output
