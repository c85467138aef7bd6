"""An example on SQLite, where the database is a file that must be whole after Ctrl-C."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.watching import ENDED_BY_CTRL_C, uvicorn
from tests.support.servers import UvicornProcess

pytestmark = pytest.mark.server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[UvicornProcess]:
    url = f"sqlite:///{folder / 'notes.sqlite'}"
    with uvicorn("examples.starlette_app:app", {"DATABASE_URL": url}) as server:
        yield server


def test_ctrl_c_leaves_one_whole_file(server: UvicornProcess, folder: Path) -> None:
    server.post("/notes", {"text": "buy milk"}).raise_for_status()
    assert server.get("/notes").json() == ["buy milk"]
    assert names_in(folder) == ["notes.sqlite", "notes.sqlite-shm", "notes.sqlite-wal"]
    server.interrupt()
    assert server.wait(10) == ENDED_BY_CTRL_C
    assert names_in(folder) == ["notes.sqlite"]
    with closing(sqlite3.connect(folder / "notes.sqlite")) as connection:
        assert connection.execute("SELECT text FROM example_notes").fetchall() == [("buy milk",)]
    assert "1 notes at shutdown" in server.log
    assert "disconnected: 1 closed, 0 cancelled, 0 cut" in server.log
    assert "Traceback" not in server.log
    assert "Warning" not in server.log


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
