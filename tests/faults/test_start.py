"""The first connect: what is waited for and for how long, and what a failed start leaves behind."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from itertools import islice

import asyncpg
import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectTimeout, Database, DatabaseUnavailable, Registry
from asgi_dbconn.pools.retry import backoff
from asgi_dbconn.testing.conformance.harness import (
    COMPLETE,
    SHUTDOWN,
    STARTUP,
    LifespanHarness,
    polite,
)
from tests.support.ports import LOOPBACK
from tests.support.postgres import PostgresServer
from tests.support.postgres_cluster import SECRET_USER, SUPERUSER, PostgresCluster
from tests.support.proxy import Mode, Proxy
from tests.support.stopwatch import taking
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.postgres

CLOSED = "[not connected | references: 0 | loops: 0]>"


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield bound.getsockname()[1]


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """A server that has not been started yet. When the test is over, it may have no client."""
    cluster = PostgresCluster()
    try:
        yield cluster
        if cluster.pid is not None:
            cluster.stop("smart", timeout=5)  # waits for the clients
    finally:
        cluster.remove()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What we warn of: one line for each attempt that will be followed by another."""
    caplog.set_level(logging.WARNING, "asgi_dbconn")
    return caplog


async def live(models: Registry, stage: LifespanHarness) -> None:
    app = models.asgi(polite([]))
    await app({"type": "lifespan"}, stage.receive, stage.send)


def hold_in_recovery(cluster: PostgresCluster) -> None:
    """Make the next start wait until `let_go`, as one does that has a long log to replay."""
    data = cluster.directory / "data"
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write("wal_level = 'replica'\nmax_wal_senders = '10'\n")
        wait = "until [ -e released ]; do sleep 0.01; done; false"
        settings.write(f"restore_command = '{wait}'\n")
    (data / "recovery.signal").touch()


def let_go(cluster: PostgresCluster) -> None:
    (cluster.directory / "data" / "released").touch()


async def test_the_application_starts_soon_after_its_server(
    cluster: PostgresCluster, told: pytest.LogCaptureFixture
) -> None:
    """Scenario 1: a server that comes three seconds later is noticed within two."""
    clock = asyncio.get_running_loop().time
    url = f"postgresql://{SUPERUSER}:hush@{LOOPBACK}:{cluster.port}/postgres"
    models = Registry(url, startup_timeout=10)
    stage = LifespanHarness(asks=[STARTUP])

    began = clock()
    life = asyncio.create_task(live(models, stage))
    await wait_until_async(lambda: clock() - began >= 3, 4)
    await asyncio.to_thread(cluster.start)
    ready = clock()
    async with asyncio.timeout(10):
        await stage.waiting.wait()

    assert clock() - ready <= 2
    assert stage.story == [STARTUP, COMPLETE["type"]]
    assert 1 <= len(told.messages) <= 9  # the last attempt succeeded
    assert all(f"{SUPERUSER}:***@" in message for message in told.messages)
    assert "hush" not in told.text
    stage.ask(SHUTDOWN)
    await life


def test_no_pause_between_two_attempts_is_longer_than_said() -> None:
    """Scenario 1: whoever comes up just after an attempt waits two seconds, not two and a half."""
    pauses = [delay for _ in range(200) for delay in islice(backoff(0.1, 2.0), 12)]

    assert max(pauses) <= 2.0
    assert min(pauses) > 0.05  # nor is the server stormed


async def test_a_start_without_a_server_fails_in_time_and_says_what_was_tried(
    dead_port: int, told: pytest.LogCaptureFixture
) -> None:
    """Scenario 2: the whole budget is used, and no more."""
    models = Registry(f"postgresql://app:hush@{LOOPBACK}:{dead_port}/shop", startup_timeout=2)
    stage = LifespanHarness()

    # The next attempt would have come two seconds later.
    with taking(2.0, most=3.0), pytest.raises(DatabaseUnavailable) as caught:
        await live(models, stage)

    assert stage.story == [STARTUP, "lifespan.startup.failed"]
    message = stage.last_message["message"]
    for part in (
        "'default'",
        f"app:***@{LOOPBACK}:{dead_port}/shop",
        f"{len(told.messages) + 1} attempts",
        "startup_timeout is over",
    ):
        assert part in message
    assert "hush" not in message + told.text
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert "ConnectionRefusedError" in message


@pytest.mark.parametrize(
    ("user", "password", "database", "state"),
    [
        ("nobody_knows_me", "", "postgres", "28000"),
        (SECRET_USER, "wrong-guess", "postgres", "28P01"),
        (SUPERUSER, "", "nobody_made_this", "3D000"),
    ],
)
async def test_what_another_attempt_would_not_change_fails_at_once(
    proxy: Proxy,
    told: pytest.LogCaptureFixture,
    user: str,
    password: str,
    database: str,
    state: str,
) -> None:
    """Scenario 3."""
    url = f"postgresql://{user}:{password}@{LOOPBACK}:{proxy.port}/{database}"
    models = Registry(url, startup_timeout=30)

    with pytest.raises(DatabaseUnavailable, match=r"1 attempt\b.*would not help") as caught:
        await models.connect()

    assert proxy.connections == 1
    assert getattr(caught.value.__cause__, "sqlstate", None) == state
    assert told.messages == []
    assert not password or password not in str(caught.value)
    assert repr(models.database).endswith(CLOSED)


async def test_a_server_that_is_starting_up_is_waited_for(
    cluster: PostgresCluster, told: pytest.LogCaptureFixture
) -> None:
    """Scenario 4: 57P03, for as long as the server recovers."""
    hold_in_recovery(cluster)
    url = f"postgresql://{SUPERUSER}@{LOOPBACK}:{cluster.port}/postgres"
    database = Database(url, startup_timeout=20)
    starting = asyncio.create_task(asyncio.to_thread(cluster.start))

    connecting = asyncio.create_task(database.connect())
    try:
        await wait_until_async(lambda: told.text.count("system is starting up") >= 2, 10)
    finally:
        let_go(cluster)
        await starting
    await connecting

    await database.ping()
    await database.disconnect()


async def test_a_full_server_is_waited_for_until_somebody_leaves(
    postgres: PostgresServer, postgres_url: str, told: pytest.LogCaptureFixture
) -> None:
    """Scenario 4: 53300."""
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')  # but not for superusers
    outsider = await asyncpg.connect(postgres.secret_url(name))
    database = Database(postgres.secret_url(name), startup_timeout=20)

    connecting = asyncio.create_task(database.connect())
    try:
        await wait_until_async(lambda: told.text.count("too many connections") >= 2, 10)
    finally:
        await outsider.close()
    async with asyncio.timeout(2):
        await connecting

    await database.ping()
    await database.disconnect()


async def test_a_host_that_swallows_everything_costs_each_attempt_its_limit_and_no_more(
    proxy: Proxy, postgres_url: str, told: pytest.LogCaptureFixture
) -> None:
    """Scenario 5."""
    proxy.set_mode("stall")
    url = proxy.url_for(postgres_url)
    database = Database(url, connect_timeout=1.0, startup_timeout=1.5)
    begun: list[float] = []

    async def note_attempts() -> None:
        while True:
            await wait_until_async(lambda: proxy.connections > len(begun), 10)
            begun.append(time.time())  # as in log records

    noting = asyncio.create_task(note_attempts())
    started = time.time()
    with pytest.raises(ConnectTimeout, match="connect_timeout") as caught:
        await database.connect()
    failed_at = time.time()
    noting.cancel()
    await asyncio.to_thread(proxy.set_mode, "reset")

    ended = [*(record.created for record in told.records), failed_at]
    assert len(begun) == len(ended) == 2
    for begin, end in zip(begun, ended, strict=True):
        assert 0.9 < end - begin < 1.1
    assert failed_at - started <= 1.5 + 1.0
    assert isinstance(caught.value, TimeoutError)
    assert "2 attempts" in str(caught.value)
    assert repr(database).endswith(CLOSED)


async def test_every_database_that_fails_is_named_and_the_first_is_the_cause(
    postgres: PostgresServer, postgres_url: str, dead_port: int
) -> None:
    """Scenario 7: the third was connected, and is closed before anybody hears of it."""
    dead = f"postgresql://app:hush@{LOOPBACK}:{dead_port}/shop"
    missing = postgres.url_for("nobody_made_this")
    models = Registry(postgres_url, extra={"a": dead, "b": missing}, startup_timeout=0)

    with pytest.raises(ExceptionGroup) as caught:
        await models.connect()

    group, told = caught.value, str(caught.value)
    for part in ("2 of 3 databases", "'a'", "app:***@", "'b'", "nobody_made_this"):
        assert part in told
    assert "hush" not in told
    assert [type(exception) for exception in group.exceptions] == [DatabaseUnavailable] * 2
    assert group.__cause__ is group.exceptions[0]
    assert "'a'" in str(group.__cause__)
    assert all(repr(database).endswith(CLOSED) for database in models.databases.values())
    name = postgres_url.rpartition("/")[2]
    await wait_until_async(lambda: not postgres.sessions(database=name), 1)


@pytest.mark.parametrize("mode", ["refuse", "stall"], ids=["in a pause", "in an attempt"])
async def test_a_start_that_is_cancelled_ends_at_once_and_may_be_made_again(
    proxy: Proxy,
    postgres_url: str,
    sqlite_url: str,
    told: pytest.LogCaptureFixture,
    mode: Mode,
) -> None:
    """Scenario 8: a database that was connected meanwhile is closed again, too."""
    proxy.set_mode(mode)
    models = Registry(proxy.url_for(postgres_url), extra={"b": sqlite_url}, startup_timeout=60)
    starting = asyncio.create_task(models.connect())
    await wait_until_async(lambda: models.databases["b"].is_connected, 5)
    if mode == "refuse":
        # A pause begins with the line that announces it, and the third is 0.3 s or longer.
        await wait_until_async(lambda: len(told.messages) == 3, 5)
    else:
        await wait_until_async(lambda: proxy.connections == 1, 5)

    lines = len(told.messages)
    with taking(most=3), pytest.raises(asyncio.CancelledError):  # of connect_timeout's five
        starting.cancel()
        await starting

    assert len(told.messages) == lines  # a pause was not slept to its end
    assert all(repr(database).endswith(CLOSED) for database in models.databases.values())
    await asyncio.to_thread(proxy.set_mode, "pass")
    async with models:
        await models.ping()


async def test_any_number_of_connects_during_a_slow_one_open_one_pool(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 9: while the password is fetched from another database; and one disconnect closes.

    50 connects, of which 49 come while the first is under way, and 50 disconnects.
    """
    name = postgres_url.rpartition("/")[2]
    asked: list[str] = []

    async with Database(postgres.url, name="vault") as vault:

        async def ask() -> str:
            async with vault.connection() as connection:
                asked.append("the vault")
                secret = await connection.execute(text("SELECT 'hush' FROM pg_sleep(0.3)"))
                return str(secret.scalar_one())

        database = Database(postgres_url, password=ask)
        await asyncio.gather(*(database.connect() for _ in range(50)))

        assert repr(database).endswith("[connected | references: 50 | loops: 1]>")
        assert len(asked) == len(postgres.sessions(database=name)) == 1
        reports = await asyncio.gather(*(database.disconnect() for _ in range(50)))
        assert [report.closed for report in reports if report is not None] == [1]
        assert repr(database).endswith(CLOSED)


async def test_everybody_gets_the_failure_of_a_shared_first_connect(
    proxy: Proxy, postgres_url: str
) -> None:
    """Scenario 10: one attempt for 50 callers, and the database recovers."""
    proxy.set_mode("reset")
    database = Database(proxy.url_for(postgres_url), startup_timeout=0)

    outcomes = await asyncio.gather(
        *(database.connect() for _ in range(50)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 50
    assert len({id(outcome) for outcome in outcomes}) == 50  # each with a traceback of its own
    assert proxy.connections == 1
    assert repr(database).endswith(CLOSED)
    await asyncio.to_thread(proxy.set_mode, "pass")
    await asyncio.gather(*(database.connect() for _ in range(50)))
    await database.ping()
    assert repr(database).endswith("[connected | references: 50 | loops: 1]>")
    await database.disconnect(force=True)
