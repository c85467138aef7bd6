"""Target databases of a run, and the names of their parts of a revision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import MetaData

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm.binding import Binding, Choice
from asgi_dbconn.urls import DatabaseURL

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

__all__ = ["Names", "TargetDatabase", "all_targets", "engine_name", "select_targets"]

Names = str | None | Sequence[str | None] | Choice
"""One database, several, or all (INHERIT). None is the default one."""


@dataclass(frozen=True)
class TargetDatabase:
    """One database to migrate, with all names that it has in the registry."""

    names: tuple[str | None, ...]
    database: Database
    metadatas: tuple[MetaData, ...]

    @property
    def label(self) -> str:
        return self.names[0] or "default"

    @property
    def engine_name(self) -> str:
        return engine_name(self.names[0])

    @property
    def engine_names(self) -> list[str]:
        return [engine_name(name) for name in self.names]


def engine_name(name: str | None) -> str:
    """Return the suffix of ``upgrade_`` in a function's name; empty for the default database."""
    return "" if name is None else re.sub(r"\W", "_", name)


def all_targets(binding: Binding, scripts: ScriptDirectory | None = None) -> list[TargetDatabase]:
    """Return the default database, and each other that has tables, or functions in a revision.

    A read replica that is registered by a name has neither, and is not migrated.
    """
    return _group(binding, _select(binding, scripts))


def select_targets(
    binding: Binding, names: Names, scripts: ScriptDirectory
) -> list[TargetDatabase]:
    """Return the databases of ``names``, or all. Raises UnknownDatabase."""
    if isinstance(names, Choice):
        return all_targets(binding, scripts)
    chosen = [names] if names is None or isinstance(names, str) else list(names)
    for name in chosen:
        binding.find_database(name)
    identities = {_identity(binding.databases[name]) for name in chosen}
    also = [
        name
        for name in _select(binding, scripts)
        if _identity(binding.databases[name]) in identities
    ]
    return _group(binding, list(dict.fromkeys([*also, *chosen])))


def _select(binding: Binding, scripts: ScriptDirectory | None) -> list[str | None]:
    return [
        name
        for name, metadata in binding.metadatas.items()
        if name is None
        or metadata.tables
        or (scripts is not None and _has_functions_for(scripts, name))
    ]


def _group(binding: Binding, names: list[str | None]) -> list[TargetDatabase]:
    # Two names of one database share its version table: for the second one there would be no
    # revision left to run.
    groups: dict[Database | DatabaseURL, list[str | None]] = {}
    for name in names:
        groups.setdefault(_identity(binding.databases[name]), []).append(name)
    _refuse_similar_names(names)
    return [
        TargetDatabase(
            tuple(group),
            binding.databases[group[0]],
            tuple(binding.metadatas[name] for name in group),
        )
        for group in groups.values()
    ]


def _identity(database: Database) -> Database | DatabaseURL:
    return database if database.url.is_memory else database.url


def _refuse_similar_names(names: list[str | None]) -> None:
    seen: dict[str, str | None] = {}
    for name in names:
        other = seen.setdefault(engine_name(name), name)
        if other != name:
            raise ConfigurationError(
                f"The databases {other!r} and {name!r} would both be migrated by functions named "
                f"upgrade_{engine_name(name)}. Give one of them another name in `extra`."
            )


def _has_functions_for(scripts: ScriptDirectory, name: str) -> bool:
    function = f"upgrade_{engine_name(name)}"
    return any(hasattr(script.module, function) for script in scripts.walk_revisions())
