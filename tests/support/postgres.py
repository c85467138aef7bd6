"""The PostgreSQL server of a test session: one of our own, or one that the environment names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

import asyncpg

from tests.support.observer import OBSERVER_NAME, Observer, with_database
from tests.support.ports import LOOPBACK
from tests.support.postgres_cluster import SECRET_USER, SUPERUSER, PostgresCluster, StopMode

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "SECRET_PASSWORD",
    "SECRET_USER",
    "ExternalServerError",
    "PostgresServer",
    "Session",
    "StopMode",
]

ENVIRONMENT_VARIABLE = "ASGI_DBCONN_TEST_POSTGRES"
# Every character that means something in a URL, so that a wrong quotation does not pass.
SECRET_PASSWORD = "s3cret:p@ss/w?rd#100%+&"

_numbers = itertools.count(1)


class ExternalServerError(RuntimeError):
    """A test asked for what only a server of our own can do."""


@dataclass(frozen=True)
class Session:
    """One client that is connected to the server."""

    pid: int
    database: str | None
    user: str | None
    application_name: str
    state: str | None
    query: str


class PostgresServer:
    """Runs from entering its context to leaving it.

    All methods are synchronous and may be called from any thread, also from a coroutine, whose
    event loop then waits. `external_url`, or if it is None the environment variable
    ASGI_DBCONN_TEST_POSTGRES, names a server that is used as it is: the role in it must be a
    superuser, and tests that stop the server or use the password role can't run with it. An empty
    text asks for a server of our own in any case.
    """

    def __init__(self, external_url: str | None = None) -> None:
        if external_url is None:
            external_url = os.environ.get(ENVIRONMENT_VARIABLE)
        self._external_url = _plain(external_url) if external_url else None
        self._owned: PostgresCluster | None = None
        self._observer: Observer | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._external_url is None:
                self._owned = PostgresCluster()
                stack.callback(self._owned.remove)
                self._owned.start()
            self._observer = Observer(self.url)
            stack.callback(self._observer.close)
            if self._owned is not None:
                self._observer.execute(
                    f"CREATE ROLE {SECRET_USER} LOGIN CREATEDB PASSWORD '{SECRET_PASSWORD}'"
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        self._observer = None
        self._owned = None

    @property
    def is_external(self) -> bool:
        return self._external_url is not None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or LOOPBACK

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 5432

    @property
    def url(self) -> str:
        """As the superuser, to the maintenance database."""
        if self._external_url is not None:
            return self._external_url
        return f"postgresql://{SUPERUSER}@{LOOPBACK}:{self._cluster.port}/postgres"

    def url_for(self, database: str) -> str:
        """As the superuser, to `database`."""
        return with_database(self.url, database)

    def secret_url(self, database: str = "postgres", password: str = SECRET_PASSWORD) -> str:
        """As the one role that the server asks for a password."""
        port = self._cluster.port
        return f"postgresql://{SECRET_USER}:{quote(password, safe='')}@{LOOPBACK}:{port}/{database}"

    @property
    def pid(self) -> int | None:
        """The process id of the server while it runs."""
        return self._cluster.pid

    @property
    def log(self) -> str:
        """What the server has written to its log."""
        return self._cluster.log

    def start(self) -> None:
        """Start the stopped server again, on the same port and with the same data."""
        self._cluster.start()

    def stop(self, mode: StopMode = "fast", timeout: float = 30.0) -> None:
        """Stop the server; `smart` waits for the clients, the other modes cut them off."""
        cluster = self._cluster
        self._running_observer.disconnect()
        cluster.stop(mode, timeout)

    def create_database(self, name: str, *, owner: str | None = None) -> str:
        """Create the database and return its URL."""
        clause = f" OWNER {_identifier(owner)}" if owner else ""
        self.execute(f"CREATE DATABASE {_identifier(name)}{clause}")
        return self.url_for(name)

    def drop_database(self, name: str) -> None:
        """Drop the database, if it exists, and end the sessions that are in it."""
        self.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    @contextmanager
    def database(self, prefix: str = "test") -> Iterator[str]:
        """The URL of a new database with a name of its own, dropped afterwards."""
        name = f"{prefix}_{os.getpid()}_{next(_numbers)}"
        url = self.create_database(name)
        try:
            yield url
        finally:
            self.drop_database(name)

    def sessions(
        self, application_name: str | None = None, *, database: str | None = None
    ) -> list[Session]:
        """The connected clients, without our own observer."""
        rows = self.fetch(
            """
            SELECT pid, datname, usename, coalesce(application_name, ''), state, coalesce(query, '')
            FROM pg_stat_activity
            WHERE backend_type = 'client backend'
              AND pid <> pg_backend_pid() AND application_name IS DISTINCT FROM $1
              AND ($2::text IS NULL OR application_name = $2)
              AND ($3::text IS NULL OR datname = $3)
            ORDER BY backend_start, pid
            """,
            OBSERVER_NAME,
            application_name,
            database,
        )
        return [Session(*row) for row in rows]

    def terminate_sessions(
        self, application_name: str | None = None, *, database: str | None = None
    ) -> int:
        """Let the server end all sessions of that name, in that database or any, and return how
        many there were.
        """
        found = [session.pid for session in self.sessions(application_name, database=database)]
        # With a time limit the function returns only when the session has ended.
        self.fetch("SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) pid", found)
        return len(found)

    def fetch(self, sql: str, *args: object, database: str | None = None) -> list[asyncpg.Record]:
        """The rows of a statement that the observer runs."""
        return self._running_observer.fetch(sql, *args, database=database)

    def execute(self, sql: str, *, database: str | None = None) -> None:
        """Let the observer run one statement or several."""
        self._running_observer.execute(sql, database=database)

    @property
    def _cluster(self) -> PostgresCluster:
        if self._external_url is not None:
            raise ExternalServerError(
                f"{ENVIRONMENT_VARIABLE} names a server that is not ours: the tests neither stop "
                "or start it nor read its log nor know a role that needs a password"
            )
        if self._owned is None:
            raise RuntimeError("the server runs only inside of its context")
        return self._owned

    @property
    def _running_observer(self) -> Observer:
        if self._observer is None:
            raise RuntimeError("the server runs only inside of its context")
        return self._observer


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(url: str) -> str:
    """The URL without the name of a driver, as SQLAlchemy has it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"
