"""Folders made by the real Flask-Migrate, in a project that moves here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, String, Table

from asgi_dbconn import Registry
from tests.migrations.folders import tables_of

pytestmark = pytest.mark.server

APPLICATION = """
from pathlib import Path

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

here = Path(__file__).parent
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{here / 'app.sqlite'}"
if (here / "several").exists():
    app.config["SQLALCHEMY_BINDS"] = {"audit": f"sqlite:///{here / 'audit.sqlite'}"}
db = SQLAlchemy(app)
Migrate(app, db)


class User(db.Model):
    __tablename__ = "users"
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String(40), unique=True)


if (here / "several").exists():

    class Entry(db.Model):
        __tablename__ = "entries"
        __bind_key__ = "audit"
        id = db.Column(db.Integer, primary_key=True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "flask_app.py").write_text(APPLICATION)
    return folder


def flask_db(project: Path, *args: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "flask_app", "db", *args],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def registry(project: Path, url: str, **extra: str) -> Registry:
    models = Registry(url, extra=extra)
    models.migrations.configure(project / "migrations")
    Table(
        "users",
        models.metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40), unique=True),
    )
    for name in extra:
        Table("entries", models.metadatas[name], Column("id", Integer, primary_key=True))
    return models


async def test_a_folder_for_one_database_goes_on(project: Path, database_url: str) -> None:
    flask_db(project, "init")
    flask_db(project, "migrate", "-m", "users")
    before = contents(project / "migrations")
    models = registry(project, database_url)

    applied = await models.migrations.upgrade()

    assert [step.message for step in applied] == ["users"]
    assert await tables_of(models) == {"users"}
    assert await models.migrations.makemigrations() is None
    assert contents(project / "migrations") == before

    models.metadata.tables["users"].append_column(Column("age", Integer))
    assert await models.migrations.makemigrations("age") is not None
    await models.migrations.upgrade()
    assert await models.migrations.check() == {}
    await models.migrations.downgrade("base")
    assert await tables_of(models) == set()


async def test_a_database_that_flask_has_migrated_is_taken_over(project: Path) -> None:
    flask_db(project, "init")
    flask_db(project, "migrate", "-m", "users")
    flask_db(project, "upgrade")
    models = registry(project, f"sqlite:///{project / 'app.sqlite'}")

    assert await models.migrations.upgrade() == []
    assert await models.migrations.check() == {}

    models.metadata.tables["users"].append_column(Column("age", Integer))
    await models.migrations.makemigrations("age")
    await models.migrations.upgrade()
    assert "(head)" in flask_db(project, "current")  # and Flask could go on, too
    flask_db(project, "downgrade")
    assert len(await models.migrations.upgrade()) == 1


async def test_a_folder_for_several_databases_goes_on(
    project: Path, database_url: str, tmp_path: Path
) -> None:
    (project / "several").touch()
    flask_db(project, "init", "--multidb")
    flask_db(project, "migrate", "-m", "both")
    before = contents(project / "migrations")
    audit = f"sqlite:///{tmp_path / 'audit.sqlite'}"
    models = registry(project, database_url, audit=audit)

    await models.migrations.upgrade()

    assert await tables_of(models) == {"users"}
    assert await tables_of(models, "audit") == {"entries"}
    assert await models.migrations.makemigrations() is None
    assert contents(project / "migrations") == before

    models.metadatas["audit"].tables["entries"].append_column(Column("text", String))
    path = await models.migrations.makemigrations("text")
    assert path is not None
    assert "def upgrade_audit()" in path.read_text()
    await models.migrations.upgrade()
    assert await models.migrations.check() == {}
    await models.migrations.downgrade("base")
    assert await tables_of(models) == await tables_of(models, "audit") == set()


async def test_a_second_database_in_a_folder_for_one(
    project: Path, database_url: str, tmp_path: Path
) -> None:
    flask_db(project, "init")
    flask_db(project, "migrate", "-m", "users")
    audit = f"sqlite:///{tmp_path / 'audit.sqlite'}"
    models = registry(project, database_url, audit=audit)
    await models.migrations.upgrade()

    path = await models.migrations.makemigrations("audit")
    await models.migrations.upgrade()

    assert path is not None
    assert path.parent == project / "migrations/versions"
    assert await tables_of(models, "audit") == {"entries"}
    assert await models.migrations.check() == {}


async def test_settings_of_its_alembic_ini_count(project: Path, sqlite_url: str) -> None:
    flask_db(project, "init")
    ini = project / "migrations/alembic.ini"
    settings = "file_template = %%(slug)s-%%(rev)s\nversion_table = schema_version\n"
    ini.write_text(ini.read_text().replace("[alembic]\n", f"[alembic]\n{settings}", 1))
    models = registry(project, sqlite_url)

    path = await models.migrations.makemigrations("users")
    await models.migrations.upgrade()

    assert path is not None
    assert path.name.startswith("users-")
    assert await tables_of(models) == {"users", "schema_version"}
