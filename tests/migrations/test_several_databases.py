"""Several databases: one folder, functions for each, and a version in each."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, Table

from asgi_dbconn import ConfigurationError, MigrationError, Registry, UnknownDatabase
from tests.migrations.folders import add_table, made_for, revise, tables_of


def pair(url: str, other: str, folder: Path) -> Registry:
    models = Registry(url, extra={"audit": other})
    models.migrations.configure(folder / "migrations")
    add_table(models)
    add_table(models, "entries", database="audit")
    return models


@pytest.fixture
def other_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'audit.sqlite'}"


async def test_each_database_gets_its_own_part(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    models = pair(database_url, other_url, tmp_path)
    migrations = models.migrations
    migrations.init()

    path = await migrations.makemigrations("both")
    applied = await migrations.upgrade()

    assert path is not None
    assert "def upgrade_() -> None:" in path.read_text()
    assert "def upgrade_audit() -> None:" in path.read_text()
    assert [step.database for step in applied] == [None, "audit"]
    assert await tables_of(models) == {"users"}
    assert await tables_of(models, "audit") == {"entries"}
    assert await migrations.makemigrations() is None
    assert len(set((await migrations.current()).values())) == 1

    await migrations.downgrade(database="audit")
    assert await tables_of(models) == {"users"}
    assert await tables_of(models, "audit") == set()
    with pytest.raises(MigrationError, match="Database 'audit': it is at base"):
        await migrations.makemigrations()


async def test_a_second_database_can_be_added_later(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    alone = Registry(database_url)
    add_table(alone)
    made_for(alone, tmp_path)
    await alone.migrations.makemigrations("alone")
    await alone.migrations.upgrade()

    models = pair(database_url, other_url, tmp_path)
    assert await models.migrations.upgrade(database=None) == []
    await models.migrations.upgrade()
    assert await tables_of(models, "audit") == set()  # the first revision was for the default
    path = await models.migrations.makemigrations("two")
    await models.migrations.upgrade()

    assert path is not None
    assert "op.create_table('entries'" in path.read_text()
    assert "op.create_table('users'" not in path.read_text()
    assert await tables_of(models, "audit") == {"entries"}
    assert await models.migrations.makemigrations() is None

    third = Registry(
        database_url, extra={"audit": other_url, "more": f"sqlite:///{tmp_path / 'more.sqlite'}"}
    )
    third.migrations.configure(tmp_path / "migrations")
    add_table(third, "things", database="more")
    applied = await third.migrations.upgrade()
    assert {step.database for step in applied} == {"more"}
    await models.migrations.downgrade("base")
    assert await tables_of(models) == await tables_of(models, "audit") == set()


async def test_a_database_without_tables_is_left_alone(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    models = Registry(database_url, extra={"replica": other_url})
    migrations = made_for(models, tmp_path)
    add_table(models)
    path = await migrations.makemigrations("first")
    await migrations.upgrade()

    assert path is not None
    assert "def upgrade() -> None:" in path.read_text()
    assert await migrations.current() == {None: (path.name.partition("_")[0],)}
    assert not (tmp_path / "audit.sqlite").exists()

    await migrations.upgrade(database="replica")
    assert (tmp_path / "audit.sqlite").exists()


async def test_two_names_of_one_database_share_a_version(database_url: str, tmp_path: Path) -> None:
    models = pair(database_url, database_url, tmp_path)
    migrations = models.migrations
    migrations.init()

    await migrations.makemigrations("first")
    applied = await migrations.upgrade(database="audit")

    assert len(applied) == 1
    assert await tables_of(models) == {"users", "entries"}
    assert await migrations.makemigrations() is None


async def test_sql_has_a_heading_for_each_database(other_url: str, tmp_path: Path) -> None:
    models = pair("postgresql://nobody@127.0.0.1:1/nothing", other_url, tmp_path)
    models.migrations.init()
    path = models.migrations.revision("both")
    path.write_text(path.read_text().replace("pass", "op.execute('SELECT 1')"))

    sql = await models.migrations.upgrade_sql()

    assert "-- Database default, postgresql" in sql
    assert "-- Database audit, sqlite" in sql
    assert sql.count("SELECT 1;") == 2
    assert "Database default" not in await models.migrations.upgrade_sql(database="audit")
    assert not (tmp_path / "audit.sqlite").exists()


async def test_one_that_fails_leaves_those_before_it_migrated(
    database_url: str, other_url: str, tmp_path: Path
) -> None:
    models = pair(database_url, other_url, tmp_path)
    migrations = models.migrations
    migrations.init()
    path = migrations.revision("both")
    create = "op.create_table('users', sa.Column('id', sa.Integer))"
    fail = "def upgrade_audit() -> None:\n    "
    code = path.read_text().replace("pass", create, 1).replace(f"{fail}pass", f"{fail}1 / 0")
    path.write_text(code)

    with pytest.raises(
        MigrationError, match=r"audit: upgrade base -> .* ZeroDivisionError"
    ) as caught:
        await migrations.upgrade()

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert await tables_of(models) == {"users"}
    path.write_text(path.read_text().replace("1 / 0", "pass"))
    assert [step.database for step in await migrations.upgrade()] == ["audit"]


async def test_names_that_are_no_identifiers_are_made_some(sqlite_url: str, tmp_path: Path) -> None:
    models = Registry(sqlite_url, extra={"read-me": f"sqlite:///{tmp_path / 'r.sqlite'}"})
    add_table(models, database="read-me")
    migrations = made_for(models, tmp_path)

    path = await migrations.makemigrations("first")
    await migrations.upgrade()

    assert path is not None
    assert "def upgrade_read_me()" in path.read_text()
    assert await tables_of(models, "read-me") == {"users"}

    alike = Registry(sqlite_url, extra={"a-b": "sqlite:///1", "a_b": "sqlite:///2"})
    for name in ("a-b", "a_b"):
        Table("things", alike.metadatas[name], Column("id", Integer, primary_key=True))
    alike.migrations.configure(tmp_path / "migrations")
    with pytest.raises(ConfigurationError, match="another name in `extra`"):
        await alike.migrations.upgrade()


async def test_a_name_that_nobody_has_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    migrations = made_for(Registry(sqlite_url), tmp_path)
    revise(migrations, "pass")

    with pytest.raises(UnknownDatabase):
        await migrations.upgrade(database="nobody")
