"""A project that grows, step by step, as a person would go about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import Result

from tests.cli.project import Project

SECOND = """    email: Mapped[str | None] = mapped_column(unique=True)
    joined: Mapped[datetime] = mapped_column(server_default=func.now())
"""
THIRD = """
    class State(enum.Enum):
        OPEN = "open"
        PAID = "paid"


    class Order(Base):
        __tablename__ = "orders"
        user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[State] = mapped_column(server_default="OPEN")
        lines: Mapped[list] = mapped_column(JSON, server_default="[]")
"""

Run = Callable[..., str]
NOTHING = "Nothing to write: the databases match the models.\n"


@pytest.mark.server
def test_the_command_as_processes(shop: Project, database_url: str) -> None:
    def run(*args: str) -> str:
        ran = shop.run("db", *args, SHOP_DATABASE=database_url)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
        return ran.stdout

    assert "wrote migrations/env.py" in run("init")
    assert run("makemigrations", "-m", "users").startswith("wrote migrations/versions/")
    assert run("upgrade").endswith(", users\n")
    assert run("upgrade") == "Nothing to do.\n"
    assert run("makemigrations") == NOTHING
    assert run("downgrade").endswith(" -> base, users\n")
    assert run("current") == "default: base\n"


def test_three_revisions_up_down_and_stamped(shop: Project, db: Run) -> None:
    db("init")
    db("makemigrations", "-m", "users")
    assert db("upgrade").count("upgrade") == 1
    assert db("makemigrations") == NOTHING

    shop.replace("main.py", "    # more about users\n", SECOND)
    db("makemigrations", "-m", "more about users")
    assert db("upgrade").count("upgrade") == 1
    assert db("makemigrations") == NOTHING

    shop.write("main.py", (shop.folder / "main.py").read_text() + dedent(THIRD))
    db("makemigrations", "-m", "orders")
    assert db("upgrade").count("upgrade") == 1
    assert db("makemigrations") == NOTHING
    assert db("check") == "The databases match the models.\n"

    third, second, first = _revisions(db)
    assert db("current") == f"default: {third} (head)\n"

    assert db("downgrade") == f"default: downgrade {third} -> {second}, orders\n"
    assert db("downgrade", "-1") == f"default: downgrade {second} -> {first}, more about users\n"
    assert db("current") == f"default: {first}\n"
    assert db("upgrade", "+1") == f"default: upgrade {first} -> {second}, more about users\n"
    db("downgrade", "base")
    assert db("current") == "default: base\n"

    assert db("stamp", second) == f"default: stamp base -> {second}\n"
    assert db("stamp", "base") == f"default: stamp {second} -> base\n"
    assert db("upgrade").count("default: upgrade") == 3
    assert db("makemigrations") == NOTHING


def test_a_failed_revision_changes_nothing_and_is_named(
    shop: Project, invoke: Callable[..., Result], db: Run
) -> None:
    db("init")
    db("makemigrations", "-m", "users")
    db("revision", "-m", "broken")
    path = next((shop.folder / "migrations/versions").glob("*_broken.py"))
    half = 'op.create_table("half", sa.Column("id", sa.Integer))\n    op.drop_table("nowhere")'
    path.write_text(path.read_text().replace("pass", half, 1))

    failed = invoke("upgrade")

    assert failed.exit_code == 1
    second, first = _revisions(db)
    assert f"default: upgrade {first} -> {second}, broken failed." in failed.stderr
    assert f"{path.name}, line " in failed.stderr
    assert "nowhere" in failed.stderr
    assert "The database is at base: it has no revision." in failed.stderr
    assert db("current") == "default: base\n"


def test_what_sql_prints_does_the_same(
    invoke: Callable[..., Result], sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", sqlite_url)
    invoke("init")
    invoke("makemigrations", "-m", "users")

    sql = invoke("upgrade", "--sql").output
    assert sql.startswith("-- Database default, sqlite\n")
    assert invoke("current").output == "default: base\n"
    with sqlite3.connect(tmp_path / "test.sqlite") as connection:
        connection.executescript(sql)
    connection.close()

    assert invoke("current").output.endswith("(head)\n")
    assert invoke("makemigrations").output == NOTHING
    assert "DROP TABLE users" in invoke("downgrade", "--sql").output
    assert "INSERT INTO alembic_version" in invoke("stamp", "--sql").output


@pytest.mark.postgres
def test_sql_for_a_server_is_in_its_dialect_and_needs_no_server(
    invoke: Callable[..., Result], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", postgres_url)
    invoke("init")
    invoke("makemigrations", "-m", "users")
    monkeypatch.setenv("SHOP_DATABASE", "postgresql://nobody@127.0.0.1:1/nothing")

    written = invoke("upgrade", "--sql")

    assert written.exit_code == 0, written.output
    assert "id SERIAL NOT NULL" in written.output


def _revisions(db: Run) -> list[str]:
    """Their numbers, the last one first."""
    lines = db("history").splitlines()
    return [line.split(" -> ")[1].split(" ")[0].rstrip(",") for line in lines]
