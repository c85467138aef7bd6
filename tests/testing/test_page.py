"""The files of `docs/how-to/test-your-app.md`, put together as a reader would, and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.support.postgres import PostgresServer
from tests.testing.left_over import databases_made_from, files_in, new_name
from tests.testing.projects import Project

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/how-to/test-your-app.md"
FILES = {
    named[1]: block.code
    for block in blocks()
    if block.path == PAGE and (named := re.match(r"# (\S+\.(?:py|ini))\n", block.code))
}
TESTS = 9

APPLICATION = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from asgi_dbconn import Registry

class Base(DeclarativeBase):
    pass

class Word(Base):
    __tablename__ = "words"
    id: Mapped[int] = mapped_column(primary_key=True)

def make_registry(url):
    models = Registry(url)
    models.adopt_metadata(None, Base.metadata)
    return models

def make_app(models):
    async def add(request):
        await models.query(Word).create()
        return PlainTextResponse(str(await models.query(Word).count()))

    return models.asgi(Starlette(routes=[Route("/", add)]))
"""

TWICE = """
import pytest

@pytest.mark.parametrize("number", range(2))
async def test_there_is_one_word(dbconn_client, dbconn_rollback, number):
    assert (await dbconn_client.get("/")).text == "1"
"""


@pytest.mark.postgres
@pytest.mark.parametrize("ini", ["pytest.ini", "pytest-asyncio.ini"])
def test_the_project_of_the_page(tmp_path: Path, postgres: PostgresServer, ini: str) -> None:
    name = new_name()
    files = {key: text for key, text in FILES.items() if not key.startswith("factory/")}
    project = Project.written_to(tmp_path, files, postgres.url_for(name))
    warnings = re.search(r"filterwarnings = (.*)", FILES["warnings.ini"])
    assert warnings is not None
    plugin = ("-p", "no:asyncio") if ini == "pytest.ini" else ()

    output = project.run(["-c", ini, *plugin, "-n", "2", "-W", warnings[1]])

    assert f"{TESTS} passed" in output
    assert databases_made_from(postgres, name) == []


def test_the_application_that_is_made_by_a_function(tmp_path: Path) -> None:
    files = {
        "pytest.ini": "[pytest]\npythonpath = .\nanyio_mode = auto\n",
        "application.py": APPLICATION,
        "conftest.py": FILES["conftest.py"],
        "factory/conftest.py": FILES["factory/conftest.py"],
        "factory/test_words.py": TWICE,
    }
    project = Project.written_to(tmp_path, files)

    assert "2 passed" in project.run(["-p", "no:asyncio"])
    assert files_in(project.temporary) == []
