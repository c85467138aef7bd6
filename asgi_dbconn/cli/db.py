"""``asgi-dbconn db``: migrations with Alembic, for every database of the application."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from asgi_dbconn.cli.db_generate import edit, init, makemigrations, merge, migrate, revision
from asgi_dbconn.cli.db_inspect import branches, check, current, heads, history, show
from asgi_dbconn.cli.db_options import (
    NEGATIVE_NUMBERS,
    migrations_of,
    names_of,
    schema_of,
    with_databases,
    with_folder,
    with_lock_timeout,
)
from asgi_dbconn.cli.discovery import AppReference
from asgi_dbconn.migrations.revisions import Applied

__all__ = ["db"]


@click.group()
def db() -> None:
    """Migrate the databases, with Alembic."""


with_sql = click.option("--sql", is_flag=True, help="Print the SQL, and connect to nothing.")
with_tag = click.option("--tag", help="For context.get_tag_argument() in a revision.")


@db.command(context_settings=NEGATIVE_NUMBERS)
@click.argument("revision", default="head")
@with_databases
@with_lock_timeout
@with_sql
@with_tag
@with_folder
@click.pass_obj
def upgrade(app: AppReference, /, *, revision: str, sql: bool, **asked: Any) -> None:
    """Run the revisions up to REVISION, by default the newest.

    A number of steps is written +1; with --sql, a range is from:to.
    """
    migrations, where, seconds = _confirm(app, **asked)
    if sql:
        click.echo(asyncio.run(migrations.upgrade_sql(revision, **where)), nl=False)
    else:
        _print_applied(asyncio.run(migrations.upgrade(revision, **where, lock_timeout=seconds)))


@db.command(context_settings=NEGATIVE_NUMBERS)
@click.argument("revision", default="-1")
@with_databases
@with_lock_timeout
@with_sql
@with_tag
@with_folder
@click.pass_obj
def downgrade(app: AppReference, /, *, revision: str, sql: bool, **asked: Any) -> None:
    """Undo the revisions after REVISION, by default the newest one; `base` undoes all."""
    migrations, where, seconds = _confirm(app, **asked)
    if sql:
        wanted = "head:-1" if revision == "-1" else revision
        click.echo(asyncio.run(migrations.downgrade_sql(wanted, **where)), nl=False)
    else:
        _print_applied(asyncio.run(migrations.downgrade(revision, **where, lock_timeout=seconds)))


@db.command(context_settings=NEGATIVE_NUMBERS)
@click.argument("revisions", nargs=-1)
@click.option("--purge", is_flag=True, help="Delete the recorded revisions first.")
@with_databases
@with_lock_timeout
@with_sql
@with_tag
@with_folder
@click.pass_obj
def stamp(
    app: AppReference, /, *, revisions: tuple[str, ...], purge: bool, sql: bool, **asked: Any
) -> None:
    """Record that the databases are at REVISIONS, by default the newest, and run nothing."""
    migrations, where, seconds = _confirm(app, **asked)
    wanted = revisions or ("head",)
    if sql:
        click.echo(asyncio.run(migrations.stamp_sql(wanted, **where)), nl=False)
    else:
        stamped = migrations.stamp(wanted, **where, purge=purge, lock_timeout=seconds)
        _print_applied(asyncio.run(stamped))


for command in (
    init, makemigrations, revision, merge, edit, migrate,
    current, history, heads, branches, show, check,
):  # fmt: skip
    db.add_command(command)


def _confirm(
    app: AppReference,
    *,
    directory: str | None,
    x: tuple[str, ...],
    names: tuple[str, ...],
    schema: str | None,
    lock_timeout: float,
    tag: str | None,
) -> tuple[Any, dict[str, Any], float]:
    migrations = migrations_of(app, directory, x, tag)
    where = {"database": names_of(app, names), "schema": schema_of(schema)}
    return migrations, where, lock_timeout


def _print_applied(applied: list[Applied]) -> None:
    if not applied:
        click.echo("Nothing to do.")
