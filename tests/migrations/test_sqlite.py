"""Tables of SQLite are rebuilt to be changed, and whatever refers to them survives it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from asgi_dbconn import MigrationError, Registry, TransactionError
from asgi_dbconn.migrations.migrations import Migrations
from tests.migrations.folders import made_for, revise, tables_of

TABLES = """
op.create_table("users", sa.Column("id", sa.Integer, primary_key=True), sa.Column("age", sa.Text))
op.create_table(
    "posts",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE")),
)
op.execute("INSERT INTO users VALUES (1, '20')")
op.execute("INSERT INTO posts VALUES (1, 1)")
"""
REBUILD = """
with op.batch_alter_table("users") as batch:
    batch.alter_column("age", type_=sa.Integer)
"""


@pytest.fixture
def models(sqlite_url: str) -> Registry:
    return Registry(sqlite_url)


@pytest.fixture
def migrations(models: Registry, tmp_path: Path) -> Migrations:
    migrations = made_for(models, tmp_path)
    revise(migrations, TABLES)
    return migrations


async def posts(models: Registry) -> list[tuple[int, int]]:
    async with models, models.connection() as connection:
        rows = await connection.execute(text("SELECT id, user_id FROM posts"))
        return [(row[0], row[1]) for row in rows]


async def test_rows_that_refer_to_a_rebuilt_table_stay(
    models: Registry, migrations: Migrations
) -> None:
    revise(migrations, REBUILD)

    assert len(await migrations.upgrade()) == 2

    assert await posts(models) == [(1, 1)]


async def test_a_revision_that_leaves_foreign_keys_dangling_is_undone(
    models: Registry, migrations: Migrations
) -> None:
    await migrations.upgrade()
    revise(migrations, "op.execute('DELETE FROM users')")

    with pytest.raises(
        MigrationError, match="refer to missing rows after this revision: 1 of 'posts' to"
    ):
        await migrations.upgrade()

    async with models, models.connection() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM users"))).scalar() == 1


async def test_what_was_dangling_before_is_no_obstacle(
    models: Registry, migrations: Migrations
) -> None:
    await migrations.upgrade()
    revise(migrations, REBUILD)
    async with models, models.connection() as connection:
        await connection.execution_options(asgi_dbconn_autocommit=True)
        await connection.execute(text("PRAGMA foreign_keys=OFF"))
        await connection.execute(text("INSERT INTO posts VALUES (2, 99)"))
        await connection.execute(text("PRAGMA foreign_keys=ON"))

    assert len(await migrations.upgrade()) == 1
    assert await posts(models) == [(1, 1), (2, 99)]


async def test_an_isolated_database_in_memory_is_not_migrated(tmp_path: Path) -> None:
    models = Registry("sqlite://")
    migrations = made_for(models, tmp_path)
    revise(migrations, TABLES)

    async with models.rollback():
        with pytest.raises(TransactionError, match="isolated"):
            await migrations.upgrade()
        assert await models.database.run(lambda _: True, autocommit=True)
    async with models:
        await migrations.upgrade()
        async with models.rollback():
            assert await tables_of(models) == {"users", "posts"}
