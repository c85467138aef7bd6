"""The command ``asgi-dbconn``, and the list of its subcommands."""

from __future__ import annotations

import os
from typing import Final

import click

from asgi_dbconn.cli.lazy_group import LazyCommand, LazyGroup, import_object

__all__ = ["COMMANDS", "cli"]

# Each subcommand is imported when it is used, so `--help` takes hardly longer than click itself.
COMMANDS: Final = {
    "check": LazyCommand(
        "asgi_dbconn.cli.check:check",
        "Connect to all databases, and report whether each answers.",
    ),
    "shell": LazyCommand(
        "asgi_dbconn.cli.shell:shell", "Open a Python shell with the models in scope, connected."
    ),
    "db": LazyCommand(
        "asgi_dbconn.cli.db:db", "Migrate the databases, with Alembic.", "alembic", "migrations"
    ),
    "demo": LazyCommand("asgi_dbconn.cli.demo:demo", "Serve a small notes application.", "uvicorn"),
}


@click.group(
    cls=LazyGroup, later=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--app",
    metavar="MODULE:ATTRIBUTE",
    help="The application, its Registry or Instance, or a function that returns one of them. "
    "A module alone is enough if it has one. [default: ASGI_DBCONN_APP, or the first one found]",
)
@click.version_option(package_name="asgi-dbconn", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, app: str | None) -> None:
    """Database connections that live exactly as long as your ASGI application."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    ctx.obj = import_object("asgi_dbconn.cli.discovery:AppReference")(app)
