"""A server whose application cannot start ends, says why, and leaves no connection behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.servers.watching import (
    FAILED_TO_START,
    PASSWORD,
    assert_nobody_connected,
    failed_start,
    with_password,
)
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.server, pytest.mark.postgres]

THREE_DATABASES = "tests.servers.apps.three_databases:app"
BROKEN_STARTUP = "tests.servers.apps.broken_startup"


@dataclass
class Addresses:
    """Two databases that live, and one that nobody serves."""

    first: str
    second: str
    dead: str = field(default_factory=lambda: dead_url("billing"))


@pytest.fixture
def urls(postgres: PostgresServer) -> Iterator[Addresses]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(postgres.database()) for _ in range(2))
        yield Addresses(first, second)


def dead_url(database: str) -> str:
    return f"postgresql://alice:{PASSWORD}@{LOOPBACK}:{free_port()}/{database}"


@pytest.mark.parametrize("handled", ["", "1"], ids=["inner lifespan", "handle_lifespan=True"])
def test_one_dead_database_of_three(
    postgres: PostgresServer, urls: Addresses, handled: str
) -> None:
    env = {
        "DATABASE_URL": with_password(urls.first),
        "AUDIT_URL": with_password(urls.second),
        "BILLING_URL": urls.dead,
        "HANDLE_LIFESPAN": handled,
    }
    ended = failed_start(THREE_DATABASES, env)
    assert_nobody_connected(postgres, urls.first, urls.second)
    assert ended.returncode == FAILED_TO_START
    reason = reason_in(ended.log)
    assert "'billing'" in reason
    assert urls.dead.partition(PASSWORD)[2] in reason
    assert "alice:***@" in reason
    assert "'audit'" not in reason
    assert "Gave up after 1 attempt" in reason
    assert "the inner application starts" not in ended.log
    assert PASSWORD not in ended.log


def test_the_databases_that_did_connect_are_closed_in_order(
    postgres: PostgresServer, urls: Addresses
) -> None:
    env = {"DATABASE_URL": urls.first, "AUDIT_URL": urls.second, "BILLING_URL": urls.dead}
    log = failed_start(THREE_DATABASES, env).log
    assert_nobody_connected(postgres, urls.first, urls.second)
    for name in ("default", "audit"):
        connected, disconnected = lines_about(name, log)
        assert connected.endswith(" connected")
        assert disconnected.endswith(" disconnected: 1 closed, 0 cancelled, 0 cut")


def test_a_dead_database_is_tried_again_until_its_startup_timeout(
    postgres: PostgresServer, urls: Addresses
) -> None:
    env = {
        "DATABASE_URL": urls.first,
        "AUDIT_URL": urls.second,
        "BILLING_URL": urls.dead,
        "STARTUP_TIMEOUT": "1",
    }
    ended = failed_start(THREE_DATABASES, env)
    assert_nobody_connected(postgres, urls.first, urls.second)
    assert ended.returncode == FAILED_TO_START
    assert "attempt 1, next in" in ended.log
    assert "ended with ConnectionRefusedError): startup_timeout is over" in reason_in(ended.log)
    assert PASSWORD not in ended.log


def test_two_dead_databases_are_both_named(postgres: PostgresServer, urls: Addresses) -> None:
    also_dead = dead_url("orders")
    env = {"DATABASE_URL": also_dead, "AUDIT_URL": urls.second, "BILLING_URL": urls.dead}
    ended = failed_start(THREE_DATABASES, env)
    assert_nobody_connected(postgres, urls.second)
    assert ended.returncode == FAILED_TO_START
    reason = reason_in(ended.log)
    assert "2 of 3 databases failed" in reason
    for url in (also_dead, urls.dead):
        assert f"alice:***{url.partition(PASSWORD)[2]}" in reason
    assert PASSWORD not in ended.log


def test_an_unknown_database_is_not_tried_again(postgres: PostgresServer, urls: Addresses) -> None:
    env = {
        "DATABASE_URL": urls.first,
        "AUDIT_URL": urls.second,
        "BILLING_URL": postgres.url_for("never_created"),
        "STARTUP_TIMEOUT": "600",
    }
    ended = failed_start(THREE_DATABASES, env)
    assert_nobody_connected(postgres, urls.first, urls.second)
    assert ended.returncode == FAILED_TO_START
    assert 'database "never_created" does not exist' in reason_in(ended.log)
    assert "trying again would not help" in reason_in(ended.log)


@pytest.mark.parametrize("app", ["app", "raises"], ids=["Starlette", "no framework"])
def test_an_application_that_fails_to_start(
    postgres: PostgresServer, urls: Addresses, app: str
) -> None:
    env = {"DATABASE_URL": with_password(urls.first), "AUDIT_URL": with_password(urls.second)}
    ended = failed_start(f"{BROKEN_STARTUP}:{app}", env)
    assert_nobody_connected(postgres, urls.first, urls.second)
    assert ended.returncode == FAILED_TO_START
    assert "LookupError: the cache has no entry 42" in reason_in(ended.log)
    # A server may end the process as soon as it is told, so everything is closed before.
    before, _, _ = ended.log.partition("ERROR ")
    for name in ("default", "audit"):
        _, disconnected = lines_about(name, before)
        assert disconnected.endswith(" disconnected: 1 closed, 0 cancelled, 0 cut")
    assert PASSWORD not in ended.log


def reason_in(log: str) -> str:
    """What the server says between its attempt to start and its end."""
    _, found, reason = log.partition("ERROR ")
    assert found, log
    return reason.partition("Application startup failed. Exiting.")[0]


def lines_about(name: str, log: str) -> list[str]:
    return [line for line in log.splitlines() if f"INFO asgi_dbconn: database {name!r}" in line]
