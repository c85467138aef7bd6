"""``demo`` as a person tries it: started in an empty folder, asked, and ended by Ctrl-C."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.cli.project import Project

pytestmark = pytest.mark.server


def test_the_demo_needs_no_files_answers_and_leaves_nothing(project: Project) -> None:
    temporary = project.folder / "temporary"
    temporary.mkdir()
    with project.terminal("demo", "--port", "0", TMPDIR=str(temporary)) as terminal:
        terminal.wait_for("Ctrl-C ends it")
        found = re.search(r"served at (http\S+)", terminal.text)
        assert found is not None
        with httpx.Client(base_url=found[1], trust_env=False) as client:
            assert client.post("/notes", json={"text": "buy milk"}).status_code == 201
            assert [note["text"] for note in client.get("/notes").json()] == ["buy milk"]
        assert len(list(temporary.iterdir())) == 1
        terminal.interrupt()
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.text
    assert "notes at the end: 1" in terminal.text
    assert list(project.folder.rglob("*")) == [temporary]


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(project: Project, port: str) -> None:
    ran = project.run("demo", "--port", port)
    assert ran.returncode == 2
    assert "--port" in ran.stderr
