"""Environment variables that name test databases, set before the application is imported.

An application may read its URL when it is imported, before any fixture runs. It never sees the URL
of its real database: code that forgets to ask for the test database fails, instead of writing into
the real one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from typing import Final

import pytest
from sqlalchemy.engine import make_url

from asgi_dbconn.errors import DatabaseUnavailable, UnsupportedURL
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.testing.database import TestDatabase, backend_for
from asgi_dbconn.testing.database_names import RUN_VARIABLE
from asgi_dbconn.urls import DatabaseURL

__all__ = ["DatabaseVariables"]


class DatabaseVariables:
    """The environment variables that name test databases while tests run.

    ``lines`` are those of the ini option: ``NAME``, or ``NAME=url`` for a variable that is not set.
    Creating this object changes nothing. It raises UsageError if a variable has no database URL.
    """

    def __init__(self, lines: Iterable[str], environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._given: Final[dict[str, str]] = {}
        self.databases: Final[dict[str, TestDatabase]] = {}
        """Test databases by variable. Variables with the same database (file, or database of a
        server) get the same test database."""
        self._before: dict[str, str | None] = {}
        self._run: str | None = None
        by_original: dict[DatabaseURL, TestDatabase] = {}
        for line in lines:
            variable, _, default = (part.strip() for part in line.partition("="))
            url = environ.get(variable) or default
            if not url:
                raise pytest.UsageError(
                    f"dbconn_environment names {variable}, but this variable is not set. Set it, "
                    f"or give the URL to use otherwise: {variable}=postgresql://localhost/shop"
                )
            try:
                database = TestDatabase(url)
            except UnsupportedURL as error:
                raise pytest.UsageError(f"{variable}, of dbconn_environment: {error}") from None
            self._given[variable] = url
            if not database.original.is_memory:  # two memory databases may have the same URL
                database = by_original.setdefault(database.original, database)
            self.databases[variable] = database

    def enter(self) -> None:
        """Set the variables to the test databases, which need not exist yet."""
        for variable, database in self.databases.items():
            self._set(variable, _spelt_like(self._given[variable], database.url))

    def leave(self) -> None:
        """Restore the variables; a second call does nothing."""
        before, self._before = self._before, {}
        for variable, value in before.items():
            if value is None:
                self._environ.pop(variable, None)
            else:
                self._environ[variable] = value

    def pass_on(self) -> None:
        """Restore the variables for workers that are about to start and inherit them.

        Each worker makes test databases of its own from them, with a mark that names its test run.
        """
        self.leave()
        self._run = secrets.token_hex(16)
        self._set(RUN_VARIABLE, self._run)

    def tidy_up(self) -> None:
        """Drop the databases of workers that crashed or were killed; do nothing without workers.

        If the server does not run any more, there is nothing to drop.
        """
        if self._run is not None:
            for original in {database.original for database in self.databases.values()}:
                with suppress(DatabaseUnavailable):
                    run_sync(backend_for(original, {"startup_timeout": 0}).remove_run(self._run))

    def _set(self, variable: str, value: str) -> None:
        self._before[variable] = self._environ.get(variable)
        self._environ[variable] = value


def _spelt_like(given: str, url: DatabaseURL) -> str:
    """Return ``url`` with the driver and query of ``given``: others may read the variable, too."""
    if url.dialect == "sqlite":
        scheme = given.partition("://")[0]
        return f"{scheme}://{url.reveal().partition('://')[2]}"
    changed = make_url(given).set(database=url.database)
    return changed.render_as_string(hide_password=False)
