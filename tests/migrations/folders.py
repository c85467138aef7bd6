"""Folders of revisions in a test: made, filled by hand, and what they did to a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import TypeVar

from sqlalchemy import Column, Inspector, Integer, String, Table, inspect

from asgi_dbconn import Registry
from asgi_dbconn.migrations.migrations import Migrations

__all__ = ["add_table", "inspected", "made_for", "revise", "tables_of"]

T = TypeVar("T")


def made_for(models: Registry, folder: Path) -> Migrations:
    """The migrations of `models`, with a new, empty folder."""
    models.migrations.configure(folder / "migrations")
    models.migrations.init()
    return models.migrations


def add_table(models: Registry, name: str = "users", database: str | None = None) -> Table:
    metadata = models.metadatas[database]
    return Table(name, metadata, Column("id", Integer, primary_key=True), Column("name", String))


def revise(migrations: Migrations, upgrade: str, downgrade: str = "pass", message: str = "") -> str:
    """Write a revision for one database by hand; gives its number."""
    path = migrations.revision(message or "by hand")
    head, _, _ = path.read_text().partition("def upgrade")
    path.write_text(
        f"{head}def upgrade() -> None:\n{indent(upgrade, '    ')}\n\n\n"
        f"def downgrade() -> None:\n{indent(downgrade, '    ')}\n"
    )
    return path.name.partition("_")[0]


async def inspected(
    models: Registry, look: Callable[[Inspector], T], database: str | None = None
) -> T:
    """What SQLAlchemy's inspector finds in the database."""
    async with models, models.connection(database) as connection:
        return await connection.run_sync(lambda sync: look(inspect(sync)))


async def tables_of(models: Registry, database: str | None = None) -> set[str]:
    """The tables in the database, without Alembic's own."""
    names = await inspected(models, lambda found: set(found.get_table_names()), database)
    return names - {"alembic_version"}
