"""The folder that we make, and Alembic's own command in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.project import Project
from tests.cli.terminal import environment
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.server

MODELS = """
    import os

    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    from asgi_dbconn import Queryable, Registry

    registry = Registry(os.environ["SHOP_DATABASE"], extra={"audit": "sqlite:///audit.sqlite"})


    class Base(Queryable, DeclarativeBase, registry=registry): ...


    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)


    class Entry(Base, database="audit"):
        __tablename__ = "entries"
        id: Mapped[int] = mapped_column(primary_key=True)
"""


def alembic(project: Project, url: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", "-c", "migrations/alembic.ini", *args],
        cwd=project.folder,
        env=environment(project.home, SHOP_DATABASE=url),
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_alembic_does_the_same_in_our_folder(tmp_path: Path, database_url: str) -> None:
    project = Project(tmp_path)
    project.write("package/__init__.py", "")
    project.write("package/models.py", MODELS)
    made = project.run("--app", "package.models", "db", "init", SHOP_DATABASE=database_url)
    assert made.returncode == 0, made.stderr
    env = (project.folder / "migrations/env.py").read_text()
    assert "from package.models import registry as models\n" in env

    def run(*args: str) -> str:
        ran = alembic(project, database_url, *args)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout + ran.stderr

    assert "_first.py" in run("revision", "--autogenerate", "-m", "first")
    assert run("upgrade", "head").count("Running upgrade") == 2
    assert run("current").count("(head)") == 2
    assert "No new upgrade operations detected" in run("check")
    assert "_second.py" not in run("revision", "--autogenerate", "-m", "second")
    run("revision", "-m", "by_hand")
    by_hand = next((project.folder / "migrations/versions").glob("*_by_hand.py"))
    assert "def upgrade_audit() -> None:" in by_hand.read_text()
    sql = run("upgrade", "head", "--sql")
    assert "-- Database audit, sqlite" in sql
    run("downgrade", "base")

    ours = project.run("--app", "package.models", "db", "current", SHOP_DATABASE=database_url)
    assert ours.stdout == "default: base\naudit: base\n"


@pytest.mark.postgres
def test_a_failure_is_told_by_alembic_too(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    project = Project(tmp_path)
    project.write("main.py", MODELS)
    assert project.run("db", "init", SHOP_DATABASE=postgres_url).returncode == 0

    ran = alembic(project, postgres_url, "upgrade", "nonsense")

    assert ran.returncode != 0
    assert "Can't locate revision identified by 'nonsense'" in ran.stderr
    assert not postgres.sessions()
