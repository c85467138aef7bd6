"""The verbs of ``asgi-dbconn db`` that only read: the databases, and the revisions."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import click
from alembic import command

from asgi_dbconn.cli.db_options import (
    migrations_of,
    names_of,
    schema_of,
    with_databases,
    with_folder,
)
from asgi_dbconn.cli.discovery import AppReference
from asgi_dbconn.migrations.alembic_errors import translate_errors
from asgi_dbconn.migrations.folder import scripts_of
from asgi_dbconn.migrations.migrations import Migrations

__all__ = ["branches", "check", "current", "heads", "history", "show"]

Heads = dict[str | None, tuple[str, ...]]

with_verbose = click.option("-v", "--verbose", is_flag=True, help="Tell more.")


@click.command()
@with_verbose
@with_databases
@with_folder
@click.pass_obj
def current(app: AppReference, /, *, verbose: bool, **asked: Any) -> None:
    """Print the revision that each database is at."""
    migrations, heads = _current(app, **asked)
    with translate_errors():
        scripts = scripts_of(migrations.folder.config())
        for name, revisions in heads.items():
            label = name or "default"
            if verbose:
                label = f"{label} ({app.registry.databases[name].url})"
            told = [script.cmd_format(verbose) for script in scripts.get_revisions(revisions)]
            click.echo(f"{label}: {', '.join(told) or 'base'}")


@click.command()
@click.option("-r", "--rev-range", metavar="FROM:TO", help="Also `current:`, or `:current`.")
@with_verbose
@click.option("-i", "--indicate-current", is_flag=True, help="Mark the databases' revisions.")
@with_databases
@with_folder
@click.pass_obj
def history(
    app: AppReference,
    /,
    *,
    rev_range: str | None,
    verbose: bool,
    indicate_current: bool,
    **asked: Any,
) -> None:
    """List the revisions, the newest first."""
    start, colon, end = (rev_range or ":").strip().partition(":")
    if not colon:
        raise click.BadParameter("a range is from:to, from: or :to", param_hint="--rev-range")
    heads: Heads = {}
    if indicate_current or "current" in (start, end):
        migrations, heads = _current(app, **asked)
    else:
        migrations = migrations_of(app, asked["directory"], asked["x"])
    at = {revision for revisions in heads.values() for revision in revisions}
    with translate_errors():
        scripts = scripts_of(migrations.folder.config())
        # Alembic accepts several heads here, too; its annotations do not have that.
        base = tuple(at) if start == "current" else start or "base"
        head = tuple(at) if end == "current" else end or "heads"
        for script in scripts.walk_revisions(cast("str", base), cast("str", head)):
            told = script.cmd_format(
                verbose, include_branches=True, include_doc=True, include_parents=True
            )
            names = [name or "default" for name, found in heads.items() if script.revision in found]
            mark = f" (current: {', '.join(names)})" if indicate_current and names else ""
            click.echo(f"{told}{mark}")


@click.command()
@with_verbose
@click.option("--resolve-dependencies", is_flag=True, help="Omit those that others depend on.")
@with_folder
@click.pass_obj
def heads(
    app: AppReference,
    *,
    verbose: bool,
    resolve_dependencies: bool,
    directory: str | None,
    x: tuple[str, ...],
) -> None:
    """List the newest revisions: one, unless there are branches."""
    config = migrations_of(app, directory, x).folder.config(stdout=sys.stdout)
    with translate_errors():
        command.heads(config, verbose=verbose, resolve_dependencies=resolve_dependencies)


@click.command()
@with_verbose
@with_folder
@click.pass_obj
def branches(
    app: AppReference, *, verbose: bool, directory: str | None, x: tuple[str, ...]
) -> None:
    """List the revisions at which branches begin."""
    with translate_errors():
        config = migrations_of(app, directory, x).folder.config(stdout=sys.stdout)
        command.branches(config, verbose=verbose)


@click.command()
@click.argument("revision", default="head")
@with_databases
@with_folder
@click.pass_obj
def show(app: AppReference, /, *, revision: str, **asked: Any) -> None:
    """Describe REVISION, by default the newest; `current` is that of the databases."""
    wanted = [revision]
    if revision == "current":
        migrations, found = _current(app, **asked)
        wanted = sorted({head for heads in found.values() for head in heads})
    else:
        migrations = migrations_of(app, asked["directory"], asked["x"])
    with translate_errors():
        for revision_id in wanted:
            command.show(migrations.folder.config(stdout=sys.stdout), revision_id)


@click.command()
@with_databases
@with_folder
@click.pass_context
def check(
    ctx: click.Context,
    *,
    names: tuple[str, ...],
    schema: str | None,
    directory: str | None,
    x: tuple[str, ...],
) -> None:
    """Print the differences of the models from the databases; exits with 1 if there are any."""
    app: AppReference = ctx.obj
    differences = asyncio.run(
        migrations_of(app, directory, x).check(
            database=names_of(app, names), schema=schema_of(schema)
        )
    )
    for name, code in differences.items():
        click.echo(f"{name or 'default'}: makemigrations would write\n{_indent(code)}")
    if not differences:
        click.echo("The databases match the models.")
    ctx.exit(1 if differences else 0)


def _current(
    app: AppReference,
    *,
    names: tuple[str, ...],
    schema: str | None,
    directory: str | None,
    x: tuple[str, ...],
) -> tuple[Migrations, Heads]:
    migrations = migrations_of(app, directory, x)
    asked = migrations.current(database=names_of(app, names), schema=schema_of(schema))
    return migrations, asyncio.run(asked)


def _indent(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.splitlines() if line.strip())
