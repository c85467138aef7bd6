"""What a newcomer tries on the running demo gives the answers that it promises."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.demo.demo_process import DemoProcess

pytestmark = pytest.mark.server

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """One demo for all tests that do not care what others have written into it."""
    with DemoProcess(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines to try need curl")
def test_the_printed_lines_work_as_they_are(tmp_path: Path) -> None:
    with DemoProcess(tmp_path) as demo:
        commands = demo.printed_commands()
        assert f"Notes are served at {demo.url}  (Ctrl-C ends it)" in demo.log
        written, all_notes, found, one, deleted, audit = (
            run(command, tmp_path) for command in commands
        )
    note = json.loads(written[1])
    assert written[0] == HTTPStatus.CREATED
    assert (note["id"], note["text"]) == (1, "buy milk")
    assert TIME.fullmatch(note["written_at"])
    assert all_notes == found == (HTTPStatus.OK, as_json([note]))
    assert one == (HTTPStatus.OK, as_json(note))
    assert deleted == (HTTPStatus.NO_CONTENT, "")
    assert audit[0] == HTTPStatus.OK
    assert [(load["event"], load["note"]) for load in json.loads(audit[1])] == [
        ("written", 1),
        ("deleted", 1),
    ]


def run(command: str, home: Path) -> tuple[int, str]:
    """What the line, typed into a shell, answers: the status and the body."""
    env = {**os.environ, "NO_PROXY": "127.0.0.1", "CURL_HOME": str(home)}
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} --silent --show-error --write-out '\\n%{{http_code}}'"],
        capture_output=True,
        text=True,
        timeout=30,
        env=env,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def as_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def test_the_first_page_says_what_to_try(demo: DemoProcess) -> None:
    page = demo.get("/").text
    commands = demo.printed_commands()
    assert len(commands) == 6
    assert [command for command in commands if command not in page] == []


def test_a_note_can_be_written_read_and_forgotten(demo: DemoProcess) -> None:
    written = demo.post("/notes", {"text": "water the plants"})
    assert written.status_code == HTTPStatus.CREATED
    path = f"/notes/{written.json()['id']}"
    assert demo.get(path).json() == written.json()
    assert demo.request("DELETE", path).status_code == HTTPStatus.NO_CONTENT
    assert demo.get(path).status_code == HTTPStatus.NOT_FOUND


def test_the_newest_note_comes_first(demo: DemoProcess) -> None:
    numbers = [demo.post("/notes", {"text": text}).json()["id"] for text in ("one", "two")]
    assert [note["id"] for note in demo.get("/notes").json()][:2] == numbers[::-1]


@pytest.mark.parametrize(("search", "found"), [("100%", 1), ("100% SURE", 1), ("1%s", 0)])
def test_a_search_takes_the_text_literally(demo: DemoProcess, search: str, found: int) -> None:
    written = demo.post("/notes", {"text": "100% sure"}).json()
    notes = demo.get("/notes", params={"search": search}).json()
    assert [note["id"] for note in notes].count(written["id"]) == found


def test_the_audit_trail_is_in_the_other_database(demo: DemoProcess) -> None:
    number = demo.post("/notes", {"text": "leave a trace"}).json()["id"]
    demo.request("DELETE", f"/notes/{number}")
    events = [entry["event"] for entry in demo.get("/audit").json() if entry["note"] == number]
    assert events == ["written", "deleted"]
    (folder,) = demo.temporary.glob("asgi-dbconn-demo-*")
    assert tables_in(folder / "notes.sqlite") == ["notes"]
    assert tables_in(folder / "audit.sqlite") == ["entries"]


def tables_in(file: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [name for (name,) in rows]


@pytest.mark.parametrize(
    "body", ["", "no JSON", "[]", "null", '"text"', "{}", '{"text": 1}', '{"text": " "}']
)
def test_what_is_no_note_is_refused_with_a_hint(demo: DemoProcess, body: str) -> None:
    response = demo.request("POST", "/notes", content=body)
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert '{"text": "buy milk"}' in response.json()["error"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_note_that_is_not_there_is_not_found(demo: DemoProcess, method: str) -> None:
    response = demo.request(method, "/notes/123456")
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response.json() == {"error": "there is no such note"}


def test_nothing_of_this_is_an_error_in_the_log(demo: DemoProcess) -> None:
    demo.get("/nowhere")
    assert [word for word in ("Traceback", "Warning", "ERROR") if word in demo.log] == []
