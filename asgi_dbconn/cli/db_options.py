"""Options of the verbs of ``asgi-dbconn db``: the folder, the databases, the new revision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final, TypeVar

import click

from asgi_dbconn.cli.discovery import AppReference
from asgi_dbconn.databases.database import Database
from asgi_dbconn.migrations.migrations import Migrations
from asgi_dbconn.migrations.target_databases import Names
from asgi_dbconn.orm.binding import INHERIT, Choice
from asgi_dbconn.registry.registry import Registry

__all__ = [
    "DEFAULT",
    "NEGATIVE_NUMBERS",
    "choose_databases",
    "migrations_of",
    "names_of",
    "schema_of",
    "with_databases",
    "with_folder",
    "with_lock_timeout",
    "with_message",
    "with_revision_options",
]

F = TypeVar("F", bound=Callable[..., Any])


DEFAULT: Final = "default"
"""The name for the database without a name."""


def choose_databases(registry: Registry, names: Sequence[str]) -> dict[str, Database]:
    """Return the databases of ``names``, or all if there are no names.

    Raises BadParameter, which lists the known names.
    """
    known = {name or DEFAULT: database for name, database in registry.databases.items()}
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"there is no database {name!r}; the names are: {', '.join(known)}",
                param_hint="--database",
            )
    return {name: database for name, database in known.items() if not names or name in names}


Decorator = Callable[[Any], Any]

NEGATIVE_NUMBERS: Final = {"ignore_unknown_options": True}
"""Settings of click with which ``-1`` is a revision and not an option."""


def _all(*decorators: Decorator) -> Callable[[F], F]:
    return lambda function: reduce(
        lambda made, decorator: decorator(made), reversed(decorators), function
    )


with_folder: Final = _all(
    click.option(
        "-d",
        "--directory",
        metavar="FOLDER",
        help="The folder with the migrations.  [default: migrations, or as in models.migrations]",
    ),
    click.option(
        "-x",
        "--x-arg",
        "x",
        metavar="KEY=VALUE",
        multiple=True,
        help="For context.get_x_argument() in a revision; may be repeated.",
    ),
)
with_databases: Final = _all(
    click.option(
        "--database",
        "names",
        metavar="NAME",
        multiple=True,
        help="Only this database; may be repeated. The one without a name is called `default`.",
    ),
    click.option("--schema", metavar="NAME", help="In this schema of a tenant (PostgreSQL)."),
)
with_lock_timeout: Final = click.option(
    "--lock-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Maximal wait for another process that migrates the same database.",
)
with_message: Final = click.option("-m", "--message", metavar="TEXT", help="Its description.")
with_revision_options: Final = _all(
    click.option("--head", default="head", show_default=True, help="The revision before it."),
    click.option("--splice", is_flag=True, help="Allow a revision before it that is not a head."),
    click.option("--branch-label", metavar="LABEL", help="Give the new branch a name."),
    click.option("--version-path", metavar="FOLDER", help="One of several version_locations."),
    click.option("--rev-id", metavar="ID", help="Use this identifier instead of a random one."),
    click.option(
        "--depends-on", metavar="REVISION", multiple=True, help="A revision to run before it."
    ),
)


def migrations_of(
    app: AppReference, directory: str | None, x: Sequence[str], tag: str | None = None
) -> Migrations:
    """Return the application's migrations; each revision is printed when it is run."""
    return app.registry.migrations.at(directory, x=x, tag=tag, tell=click.echo)


def names_of(app: AppReference, names: Sequence[str]) -> Names:
    """Return the names from ``--database``. Raises BadParameter, which lists the known names."""
    if not names:
        return INHERIT
    registry = app.registry
    return [
        name if name in registry.extra or name != DEFAULT else None
        for name in choose_databases(registry, names)
    ]


def schema_of(schema: str | None) -> str | Choice:
    """Return the schema from ``--schema``."""
    return INHERIT if schema is None else schema
