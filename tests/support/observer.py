"""A look at a PostgreSQL server from outside, for synchronous callers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.support.loop_thread import LoopThread

OBSERVER_NAME = "test-observer"

T = TypeVar("T")
# In quotes: the class takes a parameter only in its stubs.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


class Observer:
    """Keeps one connection, so that it sees the server also when no other can be opened."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = LoopThread(OBSERVER_NAME)
        self._kept: Connection | None = None

    def fetch(self, sql: str, *args: object, database: str | None = None) -> list[asyncpg.Record]:
        """The rows of one statement, in the database of the URL or in `database`."""

        async def call(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(sql, *args)

        return self._run(call, database)

    def execute(self, sql: str, *, database: str | None = None) -> None:
        """Run one statement or several, separated by semicolons."""

        async def call(connection: Connection) -> None:
            await connection.execute(sql)

        self._run(call, database)

    def disconnect(self) -> None:
        """Close the kept connection; the next call opens a new one."""
        self._thread.run(self._disconnect())

    def close(self) -> None:
        try:
            self.disconnect()
        finally:
            self._thread.close()

    def _run(self, call: Callable[[Connection], Awaitable[T]], database: str | None) -> T:
        if database is None:
            return self._thread.run(self._with_kept(call))
        return self._thread.run(self._with_new(call, database))

    async def _with_kept(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        if self._kept is not None:
            try:
                return await call(self._kept)
            except _GONE:
                # A test may have ended every session of the server, this one included.
                if not self._kept.is_closed():
                    raise
        self._kept = await _connect(self._url)
        return await call(self._kept)

    async def _with_new(self, call: Callable[[Connection], Awaitable[T]], database: str) -> T:
        connection = await _connect(with_database(self._url, database))
        try:
            return await call(connection)
        finally:
            await connection.close()

    async def _disconnect(self) -> None:
        connection, self._kept = self._kept, None
        if connection is not None:
            try:
                await connection.close(timeout=5)
            except _GONE:
                connection.terminate()


async def _connect(url: str) -> Connection:
    settings: dict[str, Any] = {"application_name": OBSERVER_NAME}
    return await asyncpg.connect(url, server_settings=settings, timeout=10)


def with_database(url: str, database: str) -> str:
    """The same URL with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
