"""The first request connects, whoever sends it and however often it has to be sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import FrameType

import pytest

from asgi_dbconn import Database, Registry, StartupFailed
from asgi_dbconn.registry.wsgi import WSGIMiddleware
from tests.servers.watching import ROOT, assert_nobody_connected, lives, sessions, with_password
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.servers import ServerProcess
from tests.support.waiting import wait_until
from tests.wsgi.customers import OWNERS, errands, open_the_bank, serve
from tests.wsgi.servers import FLASK, POOL_SIZE, WORKERS, gunicorn, waitress

pytestmark = [pytest.mark.server, pytest.mark.postgres]

NAMES = "/names"


@pytest.fixture
def bank(postgres: PostgresServer, postgres_url: str) -> str:
    """A database in which the bank has opened; when the test is over, nobody may be connected."""
    open_the_bank(postgres, postgres_url)
    return postgres_url


@pytest.mark.parametrize("start", [gunicorn, waitress])
def test_a_database_that_is_down_fails_the_request_and_not_the_next_one(
    start: Callable[..., ServerProcess], proxy: Proxy, bank: str
) -> None:
    proxy.set_mode("refuse")
    url = with_password(proxy.url_for(bank))
    with start(FLASK, url, STARTUP_TIMEOUT="0") as server:
        assert server.get("/alive").status_code == HTTPStatus.INTERNAL_SERVER_ERROR
        wait_until(lambda: "[DBC301]" in server.log, 5, message=lambda: server.log)
        assert "The databases of this WSGI application could not be connected" in server.log
        assert "Is the server running" in server.log
        assert url not in server.log

        proxy.set_mode("pass")
        answer = server.get(NAMES)
        assert (answer.status_code, answer.json()["names"]) == (HTTPStatus.OK, OWNERS)
        assert answer.json()["loop_threads"] == ["asgi-dbconn wsgi"]
        server.terminate()
        assert server.wait(10) == 0


def test_who_comes_while_it_is_tried_shares_the_outcome(proxy: Proxy, postgres_url: str) -> None:
    proxy.set_mode("stall")
    database = Database(proxy.url_for(postgres_url), startup_timeout=0, connect_timeout=30)
    app = Registry(database).wsgi(lambda environ, start_response: [b"reached"])

    with ThreadPoolExecutor(4, "test-request") as threads:
        answers = [threads.submit(app, {}, print) for _ in range(4)]
        wait_until(lambda: proxy.open_connections, 5, message="the database is asked")
        wait_until(lambda: waiting_in(app) == 4, 5, message="all of them wait")
        proxy.set_mode("reset")
        for answer in answers:
            with pytest.raises(StartupFailed, match="next request tries again"):
                answer.result(5)
    assert database.stats().connect_errors == 1
    assert not database.is_connected


def waiting_in(app: WSGIMiddleware) -> int:
    """How many threads wait while ``app`` connects."""

    def waits(innermost: FrameType) -> bool:
        frames, frame = [], innermost
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back  # type: ignore[assignment]
        connects = any(frame.f_locals.get("self") is app for frame in frames)
        return connects and innermost.f_code.co_name == "wait"

    return sum(map(waits, sys._current_frames().values()))


def test_workers_are_replaced_while_clients_are_served(postgres: PostgresServer, bank: str) -> None:
    todo = errands(200)
    with gunicorn(FLASK, bank, "--graceful-timeout", "10") as server:
        first = serve(server, postgres, bank, todo[:100], WORKERS)
        old = {session.pid for session in sessions(postgres, bank)}
        os.kill(server.pid, signal.SIGHUP)
        second = serve(server, postgres, bank, todo[100:])
        wait_until(lambda: not old & {session.pid for session in sessions(postgres, bank)}, 10)
        wait_until(lambda: len(ends(server)) == WORKERS, 5, message=lambda: server.log)
        server.get(NAMES).raise_for_status()
        server.terminate()
        assert server.wait(10) == 0
        assert_nobody_connected(postgres, bank)
    assert first.wrong == second.wrong == []
    assert first.most <= WORKERS * POOL_SIZE
    assert second.most <= 2 * WORKERS * POOL_SIZE
    assert "Traceback" not in server.log


def ends(server: ServerProcess) -> list[str]:
    return [life for life in lives(server.log) if life.startswith("disconnected")]


def test_waitress_ends_on_the_spot_by_sigterm_and_nobody_stays_connected(
    postgres: PostgresServer, bank: str
) -> None:
    with waitress(FLASK, bank) as server:
        server.get(NAMES).raise_for_status()
        assert len(sessions(postgres, bank)) == 1
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait(10) == -signal.SIGTERM
        assert_nobody_connected(postgres, bank)


ENVIRONMENT = """
    from concurrent.futures import ThreadPoolExecutor

    from asgi_dbconn import Registry, run_sync

    models = Registry({url!r})
    app = models.wsgi(lambda environ, start_response: [run_sync(models.database.ping())])

    with models.with_async_env(), ThreadPoolExecutor() as threads:
        threads.submit(run_sync, models.database.ping()).result()
        assert app({{}}, print) == [None]
    assert not models.is_connected

    assert app({{}}, print) == [None]
    assert models.is_connected
"""


def test_an_application_outlives_the_environment_of_its_first_request(sqlite_url: str) -> None:
    program = textwrap.dedent(ENVIRONMENT).format(url=sqlite_url)
    # The interpreter's end is part of the test: nothing may be complained about.
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
