"""The fixtures that a test asks for by name; each may be replaced in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from asgi_dbconn.testing import lazy
from asgi_dbconn.testing.config import databases_of_environment, find_app, find_registry
from asgi_dbconn.testing.runners import fixture_of_runner

if TYPE_CHECKING:
    from asgi_dbconn.registry.registry import Registry
    from asgi_dbconn.testing.database import TestDatabase
    from asgi_dbconn.types import ASGIApp
    from asgi_dbconn.urls import DatabaseURL

__all__ = [
    "dbconn_app",
    "dbconn_client",
    "dbconn_database",
    "dbconn_databases",
    "dbconn_registry",
    "dbconn_rollback",
    "dbconn_tables",
    "dbconn_url",
]


@pytest.fixture(scope="session")
def dbconn_url(pytestconfig: pytest.Config) -> str | DatabaseURL:
    """Return the URL for dbconn_database; replace it where dbconn_environment is not set."""
    for database in databases_of_environment(pytestconfig).values():
        return database.original
    pytest.fail(
        "Nobody says what to make the test database from. Name the variable that your application "
        "reads in the configuration of pytest (dbconn_environment = DATABASE_URL), or write a "
        "fixture dbconn_url with scope='session' that returns a URL.",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def dbconn_databases(pytestconfig: pytest.Config) -> Iterator[Mapping[str, TestDatabase]]:
    """Make the test databases of dbconn_environment, yield them by variable, and drop them."""
    databases = databases_of_environment(pytestconfig)
    with ExitStack() as stack:
        for database in dict.fromkeys(databases.values()):
            stack.enter_context(database)
        yield databases


@pytest.fixture(scope="session")
def dbconn_database(
    dbconn_databases: Mapping[str, TestDatabase], request: pytest.FixtureRequest
) -> Iterator[TestDatabase]:
    """Yield the first of dbconn_databases, or else one that is made from dbconn_url."""
    for database in dbconn_databases.values():
        yield database
        return
    with lazy.TestDatabase(request.getfixturevalue("dbconn_url")) as database:
        yield database


@pytest.fixture(scope="session")
def dbconn_app(pytestconfig: pytest.Config) -> ASGIApp:
    """Return the application: of the ini option of this name, or else monkay.instance.app."""
    return find_app(pytestconfig)


@pytest.fixture(scope="session")
def dbconn_registry(pytestconfig: pytest.Config) -> Registry:
    """Return the registry: of the ini option of this name, or else monkay.instance.registry."""
    return find_registry(pytestconfig)


@pytest.fixture(scope="session")
def dbconn_tables(
    dbconn_database: TestDatabase,  # noqa: ARG001 - arguments are how a fixture asks
    dbconn_registry: Registry,
) -> None:
    """Create the tables of all models, once; replace it to run migrations instead."""
    with dbconn_registry.with_async_env():
        lazy.run_sync(dbconn_registry.create_all())


@pytest.fixture
def dbconn_rollback(request: pytest.FixtureRequest, dbconn_tables: None) -> None:  # noqa: ARG001
    """Run models.rollback() around the test, on the event loop that the test runs on."""
    request.getfixturevalue(fixture_of_runner("rollback", request))


@pytest.fixture
def dbconn_client(request: pytest.FixtureRequest, dbconn_tables: None) -> Any:  # noqa: ARG001
    """Return an httpx.AsyncClient of dbconn_app, started and stopped on the test's event loop."""
    if "dbconn_rollback" in request.fixturenames:
        request.getfixturevalue("dbconn_rollback")  # first, whatever the order of the arguments
    return request.getfixturevalue(fixture_of_runner("client", request))
