"""The pytest fixtures; a conftest.py may replace any of them.

The runner of a test is anyio's plugin, pytest-asyncio with one of its loops, or pytest itself. An
async fixture is run by one plugin, on a loop that this plugin chooses. So the public fixtures are
synchronous: they look at the runner of the test, and request the hidden fixture for that runner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from asgi_dbconn.testing import lazy_imports
from asgi_dbconn.testing.config import databases_of_environment, find_app, find_registry

__all__ = [
    "LOOP_SCOPES",
    "LoopScope",
    "client_with_anyio",
    "client_without_loop",
    "dbconn_app",
    "dbconn_client",
    "dbconn_database",
    "dbconn_databases",
    "dbconn_registry",
    "dbconn_rollback",
    "dbconn_tables",
    "dbconn_url",
    "fixture_name",
    "fixture_of_runner",
    "rollback_with_anyio",
    "rollback_without_loop",
]

if TYPE_CHECKING:
    import httpx

    from asgi_dbconn.registry.registry import Registry
    from asgi_dbconn.testing.database import TestDatabase
    from asgi_dbconn.types import ASGIApp
    from asgi_dbconn.urls import DatabaseURL


What = Literal["rollback", "client"]
LoopScope = Literal["function", "class", "module", "package", "session"]

LOOP_SCOPES: Final[tuple[LoopScope, ...]] = ("function", "class", "module", "package", "session")
"""Scopes of pytest-asyncio: a loop for each test, or one for all tests of a class, and so on."""


def fixture_of_runner(what: What, request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that does ``what`` on the loop of the requesting test."""
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and request.config.pluginmanager.has_plugin("asyncio"):
        default = request.config.getini("asyncio_default_test_loop_scope")
        return fixture_name(what, f"loop_of_{marker.kwargs.get('loop_scope') or default}")
    if "anyio_backend" in request.fixturenames:
        return fixture_name(what, "anyio")
    return fixture_name(what, "no_loop")


def fixture_name(what: What, runner: str) -> str:
    """Return a hidden name: pytest does not list fixtures that begin with an underscore."""
    return f"_dbconn_{what}_with_{runner}"


@pytest.fixture(scope="session")
def dbconn_url(pytestconfig: pytest.Config) -> str | DatabaseURL:
    """Return the URL for dbconn_database; replace it if dbconn_environment is not set."""
    for database in databases_of_environment(pytestconfig).values():
        return database.original
    pytest.fail(
        "No URL for the test database is configured. Name the variable that your application "
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
    """Yield the first of dbconn_databases, or else one that is created from dbconn_url."""
    for database in dbconn_databases.values():
        yield database
        return
    with lazy_imports.TestDatabase(request.getfixturevalue("dbconn_url")) as database:
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
        lazy_imports.run_sync(dbconn_registry.create_all())


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


@pytest.fixture(name=fixture_name("rollback", "anyio"))
async def rollback_with_anyio(dbconn_registry: Registry) -> AsyncIterator[None]:
    """Roll back on the loop of anyio's test runner."""
    async with dbconn_registry.rollback():
        yield


@pytest.fixture(name=fixture_name("client", "anyio"))
async def client_with_anyio(dbconn_app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client on the loop of anyio's test runner."""
    async with lazy_imports.run_app(dbconn_app) as client:
        yield client


@pytest.fixture(name=fixture_name("rollback", "no_loop"))
def rollback_without_loop(dbconn_registry: Registry) -> Iterator[None]:
    """Roll back around tests that call run_sync, as those of a WSGI application do."""
    with lazy_imports.run_isolated(dbconn_registry):
        yield


@pytest.fixture(name=fixture_name("client", "no_loop"))
def client_without_loop() -> None:
    """Fail, and name the client to use instead."""
    pytest.fail(
        "dbconn_client is an async client, and this test is synchronous, or no plugin runs it. "
        "Write `async def` and a mark of your plugin, or use Starlette's TestClient: "
        "TestClient(LifespanMiddleware(app, models.rollback)).",
        pytrace=False,
    )
