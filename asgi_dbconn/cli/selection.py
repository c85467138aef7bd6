"""Databases of a registry by the names that a command line has for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from asgi_dbconn.databases.database import Database
from asgi_dbconn.registry.registry import Registry

__all__ = ["DEFAULT", "chosen"]

DEFAULT: Final = "default"
"""The name that stands for the database without a name."""


def chosen(registry: Registry, names: Sequence[str]) -> dict[str, Database]:
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
