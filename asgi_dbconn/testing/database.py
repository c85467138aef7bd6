"""Databases for tests: created on entry and dropped on exit, one for each test run and worker."""

from __future__ import annotations

import asyncio
import os
from pathlib import PurePath
from typing import ClassVar, Final, Self, Unpack

from sqlalchemy.engine import URL

from asgi_dbconn.errors import UnsupportedURL
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.options import DatabaseOptions, OptionArguments, hide_password
from asgi_dbconn.testing.database_names import database_name
from asgi_dbconn.testing.postgresql_databases import PostgreSQLServer
from asgi_dbconn.testing.sqlite_files import SQLiteFiles
from asgi_dbconn.urls import MASK, DatabaseURL, parse_url

__all__ = ["TestDatabase", "backend_for", "drop_left_overs"]


TestBackend = PostgreSQLServer | SQLiteFiles


class TestDatabase:
    """A new database for tests: ``async with TestDatabase(url) as database``, or ``with``.

    The registry is then ``Registry(database.url)``.

    ``url`` names a server and a database that need not exist. The new database is empty. Its name
    is that of ``url``, with ``prefix``, the worker of pytest-xdist and random characters. The name
    is known, as ``database.url``, before the database is created. On SQLite it is a temporary file,
    also if ``url`` is in memory.

    ``template`` is the database to copy: another TestDatabase, or the name of a database (SQLite: a
    file). PostgreSQL allows no connection to it meanwhile. With ``drop=False`` the new database is
    not dropped, so that it can be inspected. ``options`` are those of ``Database``, for the
    connection that creates and drops.

    Entering raises DatabaseUnavailable if there is no such server, and ConfigurationError if the
    role may not create databases. The object may be entered again after it was left.
    """

    __test__: ClassVar = False  # for pytest: not a class of tests

    def __init__(
        self,
        url: str | URL | DatabaseURL,
        *,
        prefix: str = "test_",
        template: TestDatabase | str | None = None,
        drop: bool = True,
        **options: Unpack[OptionArguments],
    ) -> None:
        # An error from here on must not have a secret in the local variables of its traceback.
        parsed, url = parse_url(url), MASK
        options = hide_password(options)
        if isinstance(parsed, UnsupportedURL):
            raise parsed
        self.original: Final = parsed
        self._home = backend_for(parsed, options)
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        self.name: Final = database_name(prefix, _word_for(parsed), worker)
        self.url: Final = self._home.url(self.name)
        self._template = template.url.database if isinstance(template, TestDatabase) else template
        self._drop = drop

    async def __aenter__(self) -> Self:
        try:
            await self._home.make(self.name, self._template)
        except BaseException:
            # The server may have created it, if we were cancelled before its answer.
            await asyncio.shield(asyncio.ensure_future(self._home.remove(self.name)))
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._drop:
            await asyncio.shield(asyncio.ensure_future(self._home.remove(self.name)))

    def __enter__(self) -> Self:
        return run_sync(self.__aenter__())

    def __exit__(self, *exc_info: object) -> None:
        run_sync(self.__aexit__(*exc_info))

    def __repr__(self) -> str:
        return f"<TestDatabase {self.url}>" if hasattr(self, "url") else "<TestDatabase>"


def backend_for(url: DatabaseURL, options: OptionArguments) -> TestBackend:
    """Return the backend for test databases of ``url``: a PostgreSQL server, or SQLite files.

    Raises ConfigurationError for a wrong option.
    """
    DatabaseOptions.check(options)
    return SQLiteFiles(url) if url.dialect == "sqlite" else PostgreSQLServer(url, options)


def _word_for(url: DatabaseURL) -> str:
    if url.dialect == "sqlite":
        stem = PurePath((url.database or "").removeprefix("file:")).stem
        return "memory" if url.is_memory else stem
    return url.database or url.username or "database"


async def drop_left_overs(
    url: str | URL | DatabaseURL, *, older_than: float = 3600.0, **options: Unpack[OptionArguments]
) -> list[str]:
    """Drop unused databases that ``TestDatabase`` made on the server of ``url``; return the names.

    They have its mark, were created at least ``older_than`` seconds ago, and have no connection.
    On SQLite they are the marked files in the folder for temporary files, used or not.
    """
    parsed, url = parse_url(url), MASK
    options = hide_password(options)
    if isinstance(parsed, UnsupportedURL):
        raise parsed
    return await backend_for(parsed, options).remove_old(older_than)
