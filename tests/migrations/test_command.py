"""The verbs of `asgi-dbconn db` one by one, beside those of the step by step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.project import Project

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DATABASE", sqlite_url)


@pytest.fixture
def run(invoke: Invoke) -> Callable[..., str]:
    """In a folder with three revisions: two branches upon the first."""

    def checked(*args: str) -> str:
        result = invoke(*args)
        assert result.exit_code == 0, result.output
        return result.output

    checked("init")
    checked("makemigrations", "-m", "users", "--rev-id", "a1")
    checked("revision", "-m", "left", "--rev-id", "b1")
    checked("revision", "-m", "right", "--rev-id", "b2", "--head", "a1", "--splice")
    return checked


def test_several_revisions_are_stamped_as_sql_too(run: Callable[..., str]) -> None:
    printed = run("stamp", "--sql", "b1", "b2")

    assert "'b1'" in printed
    assert "'b2'" in printed


def test_branches_are_shown_and_merged(run: Callable[..., str], invoke: Invoke) -> None:
    assert run("heads").splitlines() == ["b1 (head)", "b2 (head)"]
    assert run("branches").startswith("a1 (branchpoint)\n   -> ")
    refused = invoke("upgrade")
    assert refused.exit_code == 1
    assert "Multiple head revisions are present" in refused.stderr

    run("upgrade", "heads")
    assert run("current") == "default: b1 (head), b2 (head)\n"
    assert run("merge", "-m", "together", "--rev-id", "c1") == (
        "wrote migrations/versions/c1_together.py\n"
    )
    assert run("upgrade") == "default: upgrade b1, b2 -> c1, together\n"
    assert run("heads") == "c1 (head)\n"
    assert run("downgrade", "a1").count("downgrade") == 3


def test_history_shows_ranges_and_what_is_current(run: Callable[..., str]) -> None:
    run("upgrade", "b1")

    assert "a1 -> b1 (head), left (current: default)" in run("history", "-i")
    assert run("history", "-r", "a1:b2").splitlines()[0] == "a1 -> b2 (head), right"
    assert "right" not in run("history", "-r", ":current")
    assert "Path:" in run("history", "--verbose")


def test_a_range_that_is_none_is_refused(run: Callable[..., str], invoke: Invoke) -> None:
    refused = invoke("history", "-r", "a1")

    assert refused.exit_code == 2
    assert "a range is from:to" in refused.stderr


def test_a_revision_is_shown_and_edited(
    run: Callable[..., str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "Parent: a1" in run("show", "b1")
    assert run("show", "current") == ""
    nothing = invoke("edit")
    assert (nothing.exit_code, nothing.stderr) == (
        1, "Error: The databases have no revision yet, so there is nothing to edit.\n",
    )  # fmt: skip
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "# edited" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))

    run("upgrade", "a1")
    run("edit")
    run("edit", "b2")

    versions = Path("migrations/versions")
    assert (versions / "a1_users.py").read_text().endswith("# edited\n")
    assert (versions / "b2_right.py").read_text().endswith("# edited\n")
    assert "edited" not in (versions / "b1_left.py").read_text()


def test_check_exits_with_one_if_there_is_a_difference(
    shop: Project, run: Callable[..., str], invoke: Invoke
) -> None:
    run("upgrade", "heads")
    assert run("check") == "The databases match the models.\n"

    shop.replace("main.py", "    # more about users", "    age: Mapped[int | None]")
    different = invoke("check")

    assert different.exit_code == 1
    assert "default: makemigrations would write\n    with op.batch_alter_table" in different.output


def test_an_existing_database_can_be_stamped(run: Callable[..., str]) -> None:
    assert run("stamp", "b1", "b2").count("stamp") == 2
    assert run("current", "--verbose").startswith("default (sqlite+aiosqlite:///")
    assert run("stamp", "--purge", "a1") == "default: stamp base -> a1\n"


@pytest.mark.parametrize("args", [(), ("-m", "users"), ("upgrade", "--anything", "-x", "1")])
def test_migrate_does_nothing_but_name_the_two_verbs(invoke: Invoke, args: tuple[str, ...]) -> None:
    refused = invoke("migrate", *args)

    assert refused.exit_code == 2
    assert "asgi-dbconn db makemigrations" in refused.stderr
    assert "asgi-dbconn db upgrade" in refused.stderr
    assert not Path("migrations").exists()


def test_only_some_databases_and_another_folder_can_be_named(invoke: Invoke) -> None:
    assert invoke("init", "-d", "elsewhere").exit_code == 0
    written = invoke("makemigrations", "-d", "elsewhere", "--database", "default")
    assert written.output.startswith("wrote elsewhere/versions/")

    unknown = invoke("upgrade", "-d", "elsewhere", "--database", "nobody")
    assert unknown.exit_code == 2
    assert "the names are: default" in unknown.stderr


def test_help_does_not_need_alembic_and_importing_neither() -> None:
    program = """
import sys
import asgi_dbconn
asgi_dbconn.Registry("sqlite://").migrations
from asgi_dbconn.cli.command import cli
try:
    cli(["--help"])
except SystemExit:
    pass
print("alembic" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert ran.stdout.splitlines()[-1] == "False", ran.stderr
