"""What makemigrations finds: the difference, all of it, and nothing more."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import MetaData, Table

from asgi_dbconn import Registry
from tests.migrations.folders import add_table, inspected, made_for, tables_of

Fill = Callable[[MetaData], Any]


def everything(metadata: MetaData) -> None:
    """Whatever autogenerate is known to stumble over."""
    mood = sa.Enum("good", "bad", name="mood")
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), unique=True),
        sa.Column("mood", mood, server_default="good", nullable=False),
        sa.Column("weather", mood),
        sa.Column("data", sa.JSON, server_default="{}", nullable=False),
        sa.Column("more", sa.JSON, server_default=sa.text("'[]'")),
        sa.Column("is_active", sa.Boolean, server_default=sa.true(), nullable=False),
        sa.Column("is_new", sa.Boolean(create_constraint=True, name="new_or_not")),
        sa.Column("key", sa.Uuid, server_default=str(uuid.UUID(int=1))),
        sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("took", sa.Interval),
        sa.Column("price", sa.Numeric(10, 2), server_default="0"),
        sa.Column("said", sa.String, server_default="it's"),
        sa.Column("blob", sa.LargeBinary),
        sa.Column("big", sa.BigInteger),
        sa.Column("twice", sa.Integer, sa.Computed("id * 2")),
    )
    sa.Table(
        "members",
        metadata,
        sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("group", sa.String, primary_key=True),
        sa.Column("mood", mood),
        sa.CheckConstraint("\"group\" <> ''", name="group_named"),
        sa.Index("ix_members_mood", "mood", unique=True),
    )
    sa.Table(
        "notes",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.Integer),
        sa.Column("group", sa.String, index=True),
        sa.ForeignKeyConstraint(["user_id", "group"], ["members.user_id", "members.group"]),
        sa.UniqueConstraint("user_id", "group"),
    )


def models_of(url: str, fill: Fill, folder: Path) -> Registry:
    models = Registry(url)
    models.migrations.configure(folder / "migrations")
    fill(models.metadata)
    return models


async def grow(url: str, folder: Path, *versions: Fill) -> list[str]:
    """Take a database from the first version of the models to the last, back to nothing, and up
    again; gives the code of each revision. Each finds the difference, and the next time nothing.
    """
    migrations = Registry(url).migrations.at(folder / "migrations")
    migrations.init()
    written = []
    for fill in versions:
        migrations = models_of(url, fill, folder).migrations
        path = await migrations.makemigrations("step")
        assert path is not None
        written.append(path.read_text())
        assert len(await migrations.upgrade()) == 1
        assert await migrations.check() == {}
        assert await migrations.makemigrations() is None
    for _ in versions:
        await migrations.downgrade()
    assert await tables_of(Registry(url)) == set()
    assert len(await migrations.upgrade()) == len(versions)
    assert await migrations.check() == {}
    return written


async def test_nothing_is_found_twice(database_url: str, tmp_path: Path) -> None:
    await grow(database_url, tmp_path, everything)


def plain(metadata: MetaData) -> None:
    sa.Table(
        "users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text)
    )
    sa.Table(
        "posts", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("u", sa.Integer)
    )


def bound(metadata: MetaData) -> None:
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Text, unique=True),
    )
    sa.Table(
        "posts",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("u", sa.ForeignKey("users.id"), nullable=False),
    )


async def test_constraints_get_names_so_that_they_can_be_dropped(
    database_url: str, tmp_path: Path
) -> None:
    _, code, _ = await grow(database_url, tmp_path, plain, bound, plain)

    assert "'users_a_key'" in code
    assert "'posts_u_fkey'" in code
    assert "constraint(None" not in code
    assert "foreign_key(None" not in code


def moods(*values: str) -> Fill:
    def fill(metadata: MetaData) -> None:
        sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True))
        if values:
            table = metadata.tables["users"]
            table.append_column(sa.Column("mood", sa.Enum(*values, name="mood")))
            sa.Table("days", metadata, sa.Column("mood", sa.Enum(*values, name="mood")))

    return fill


@pytest.mark.postgres
async def test_an_enum_type_comes_and_goes_with_its_columns(
    postgres_url: str, tmp_path: Path
) -> None:
    _, added, dropped = await grow(postgres_url, tmp_path, moods(), moods("good", "bad"), moods())

    assert added.count("CREATE TYPE mood") == added.count("DROP TYPE mood") == 1
    assert dropped.count("CREATE TYPE mood") == dropped.count("DROP TYPE mood") == 1


async def test_the_models_of_the_user_are_left_as_they_are(
    database_url: str, tmp_path: Path
) -> None:
    models = models_of(database_url, everything, tmp_path)
    models.migrations.init()

    await models.migrations.makemigrations("first")

    unnamed = {
        constraint.name
        for table in models.metadata.tables.values()
        for constraint in table.constraints
    }
    assert None in unnamed
    assert isinstance(models.metadata.tables["users"].c.mood.type, sa.Enum)


@pytest.mark.postgres
async def test_schemas_that_tables_name_are_compared_and_no_others(
    postgres_url: str, tmp_path: Path
) -> None:
    def fill(metadata: MetaData) -> None:
        sa.Table("entries", metadata, sa.Column("id", sa.Integer, primary_key=True), schema="audit")
        sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), schema="public")

    models = models_of(postgres_url, fill, tmp_path)
    models.migrations.init()
    async with models, models.connection() as connection:
        for statement in (
            "CREATE SCHEMA audit",
            "CREATE SCHEMA theirs",
            "CREATE TABLE theirs.x ()",
        ):
            await connection.exec_driver_sql(statement)

    await models.migrations.makemigrations("first")
    await models.migrations.upgrade()

    assert await models.migrations.check() == {}
    assert await inspected(models, lambda found: found.get_table_names(schema="audit")) == [
        "entries"
    ]
    assert await inspected(models, lambda found: found.get_table_names(schema="theirs")) == ["x"]


async def test_check_tells_what_would_be_written(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    table: Table = add_table(models)

    assert "op.create_table('users'" in (await migrations.check())[None]

    await migrations.makemigrations("first")
    await migrations.upgrade()
    table.append_column(sa.Column("age", sa.Integer))
    assert "add_column" in (await migrations.check())[None]


async def test_options_of_alembic_can_be_chosen(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    add_table(models)
    add_table(models, "spatial_ref_sys")
    seen: list[Any] = []

    def include_object(_: Any, name: str | None, kind: str, *__: Any) -> bool:
        return not (kind == "table" and name == "spatial_ref_sys")

    migrations = made_for(models, tmp_path)
    migrations.configure(
        include_object=include_object,
        version_table="schema_version",
        process_revision_directives=lambda *given: seen.append(given),
    )
    await migrations.makemigrations("first")
    await migrations.upgrade()

    assert await tables_of(models) == {"users", "schema_version"}
    assert await migrations.check() == {}
    assert len(seen) == 2
