"""What every test gets: a database of its own, of each kind, and a check that nothing is left."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leftovers import no_leftovers, no_unread_errors, wait_until
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

# A shell starts what runs in its background with SIGINT ignored, and that is inherited: by us, and
# by the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What waits for faults to pass, makes environments, runs programs or tries thousands of cases, and
# so takes its time: whole folders, and in the others these files.
SLOW = {
    *("benchmarks", "cli", "conformance", "docs", "faults", "frameworks", "migrations", "orm"),
    *("blocks", "histories", "registry_sync", "suites", "support", "tenants", "wsgi"),
    *("databases/test_random_programs.py", "settings/test_light_import.py"),
    *("loops/test_processes.py", "loops/test_timeouts.py", "loops/test_waiting.py"),
    *("testing/test_page.py", "testing/test_plugin.py"),
    *("testing/test_plugin_ending.py", "testing/test_plugin_start.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(Path(__file__).parent)
        if path.parts[0] in SLOW or path.as_posix() in SLOW:
            item.add_marker("slow")


@pytest.fixture(scope="module", autouse=True)
def nothing_old_is_looked_through() -> None:
    """What exists before the first test of a file is no leftover of any of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server of this run: our own, or the one that the environment names."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A new PostgreSQL database. When the test is over, nobody may be connected to it."""
    with postgres.database() as url:
        yield url
        name = url.rpartition("/")[2]
        wait_until(
            lambda: not postgres.sessions(database=name),
            1.0,
            message=lambda: f"nobody is connected: {postgres.sessions(database=name)}",
        )


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The same test on every kind of database."""
    url: str = request.getfixturevalue(
        "sqlite_url" if request.param == "sqlite" else "postgres_url"
    )
    return url


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    """A network between us and PostgreSQL that counts round trips and can be made to fail."""
    with Proxy(postgres.host, postgres.port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    with no_unread_errors(), no_leftovers():
        yield
