"""The options that the verbs of ``asgi-dbconn db`` share: which folder, which databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final, TypeVar

import click

from asgi_dbconn.cli.discovery import Target
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
"""The name that stands for the database without a name."""


def choose_databases(registry: Registry, names: Sequence[str]) -> dict[str, Database]:
    """Return the databases of ``names``, or all if there are none.

    Raises BadParameter, naming the known ones.
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
"""Settings that make ``-1`` a revision and not an option."""


def _all(*decorators: Decorator) -> Callable[[F], F]:
    return lambda function: reduce(
        lambda made, decorator: decorator(made), reversed(decorators), function
    )


with_folder: Final = _all(
    click.option(
        "-d",
        "--directory",
        metavar="FOLDER",
        help="Where the migrations are.  [default: migrations, or what models.migrations has]",
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
        help="Only this one; may be repeated. The one without a name is called `default`.",
    ),
    click.option("--schema", metavar="NAME", help="In this schema (PostgreSQL): a tenant's."),
)
with_lock_timeout: Final = click.option(
    "--lock-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long to wait for somebody else who migrates the same database.",
)
with_message: Final = click.option("-m", "--message", metavar="TEXT", help="What it is for.")
with_revision_options: Final = _all(
    click.option("--head", default="head", show_default=True, help="Build upon this revision."),
    click.option("--splice", is_flag=True, help="Build upon one that is not a head."),
    click.option("--branch-label", metavar="LABEL", help="Give the new branch a name."),
    click.option("--version-path", metavar="FOLDER", help="One of several version_locations."),
    click.option("--rev-id", metavar="ID", help="Instead of one that is made up."),
    click.option(
        "--depends-on", metavar="REVISION", multiple=True, help="Which has to be run before."
    ),
)


def migrations_of(
    target: Target, directory: str | None, x: Sequence[str], tag: str | None = None
) -> Migrations:
    """Return the application's migrations; the terminal tells of them as they are run."""
    return target.registry.migrations.at(directory, x=x, tag=tag, tell=click.echo)


def names_of(target: Target, names: Sequence[str]) -> Names:
    """Return the names chosen by ``--database``. Raises BadParameter, naming the known ones."""
    if not names:
        return INHERIT
    registry = target.registry
    return [
        name if name in registry.extra or name != DEFAULT else None
        for name in choose_databases(registry, names)
    ]


def schema_of(schema: str | None) -> str | Choice:
    """Return the schema chosen by ``--schema``."""
    return INHERIT if schema is None else schema
