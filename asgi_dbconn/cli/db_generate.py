"""The verbs of ``asgi-dbconn db`` that write files: the folder, and revisions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from alembic import command

from asgi_dbconn.cli.db_options import (
    migrations_of,
    names_of,
    schema_of,
    with_databases,
    with_folder,
    with_message,
    with_revision_options,
)
from asgi_dbconn.cli.discovery import AppReference
from asgi_dbconn.cli.errors import Failure, Misuse
from asgi_dbconn.migrations.alembic_errors import translate_errors

__all__ = ["edit", "init", "makemigrations", "merge", "migrate", "revision"]


@click.command()
@click.option("-d", "--directory", metavar="FOLDER", help="The new folder.  [default: migrations]")
@click.pass_obj
def init(app: AppReference, *, directory: str | None) -> None:
    """Create the folder for the migrations; the `alembic` command works with it, too."""
    written = migrations_of(app, directory, ()).init()
    for path in written:
        click.echo(f"wrote {_show(path)}")
    click.echo("Next: asgi-dbconn db makemigrations -m first")


@click.command()
@with_message
@with_databases
@with_revision_options
@with_folder
@click.pass_obj
def makemigrations(app: AppReference, /, **asked: Any) -> None:
    """Write a revision with the differences of the models from the databases, if there are any."""
    _generate(app, **asked)


@click.command()
@with_message
@click.option("--autogenerate", is_flag=True, help="Do the same as makemigrations.")
@with_databases
@with_revision_options
@with_folder
@click.pass_obj
def revision(app: AppReference, /, *, autogenerate: bool, **asked: Any) -> None:
    """Write an empty revision, for operations written by hand."""
    if autogenerate:
        _generate(app, **asked)
        return
    for option in ("names", "schema"):  # an empty revision has functions for every database
        asked.pop(option)
    migrations = migrations_of(app, asked.pop("directory"), asked.pop("x"))
    asked["depends_on"] = list(asked["depends_on"]) or None
    click.echo(f"wrote {_show(migrations.revision(asked.pop('message'), **asked))}")


@click.command()
@click.argument("revisions", nargs=-1)
@with_message
@click.option("--branch-label", metavar="LABEL", help="Give the merged branch a name.")
@click.option("--rev-id", metavar="ID", help="Use this identifier instead of a random one.")
@with_folder
@click.pass_obj
def merge(
    app: AppReference,
    *,
    revisions: tuple[str, ...],
    message: str | None,
    branch_label: str | None,
    rev_id: str | None,
    directory: str | None,
    x: tuple[str, ...],
) -> None:
    """Write a revision that merges REVISIONS, by default all heads."""
    migrations = migrations_of(app, directory, x)
    wanted = list(revisions) or "heads"
    written = migrations.merge(wanted, message, branch_label=branch_label, rev_id=rev_id)
    click.echo(f"wrote {_show(written)}")


@click.command()
@click.argument("revision", default="current")
@with_databases
@with_folder
@click.pass_obj
def edit(
    app: AppReference,
    *,
    revision: str,
    names: tuple[str, ...],
    schema: str | None,
    directory: str | None,
    x: tuple[str, ...],
) -> None:
    """Open REVISION in $EDITOR, by default the one that the databases are at."""
    migrations = migrations_of(app, directory, x)
    wanted = [revision]
    if revision == "current":
        found = asyncio.run(
            migrations.current(database=names_of(app, names), schema=schema_of(schema))
        )
        wanted = sorted({head for heads in found.values() for head in heads})
    if not wanted:
        raise Failure("The databases have no revision yet, so there is nothing to edit.")
    with translate_errors():
        for revision_id in wanted:
            command.edit(migrations.folder.config(), revision_id)


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    short_help="Print why it does nothing.",
)
def migrate() -> None:
    """Print an explanation: this word means opposite things in flask-migrate and in Edgy."""
    raise Misuse(
        "`db migrate` writes a revision in flask-migrate, and runs revisions in Edgy. Here it does "
        "neither:\n"
        "  asgi-dbconn db makemigrations   writes a revision\n"
        "  asgi-dbconn db upgrade          runs the revisions"
    )


def _generate(
    app: AppReference,
    *,
    message: str | None,
    names: tuple[str, ...],
    schema: str | None,
    directory: str | None,
    x: tuple[str, ...],
    **options: Any,
) -> None:
    options["depends_on"] = list(options["depends_on"]) or None
    written = asyncio.run(
        migrations_of(app, directory, x).makemigrations(
            message, database=names_of(app, names), schema=schema_of(schema), **options
        )
    )
    if written is None:
        click.echo("Nothing to write: the databases match the models.")
    else:
        click.echo(f"wrote {_show(written)}")


def _show(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
