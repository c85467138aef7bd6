"""``check``: what it says about databases that answer, and about those that do not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from asgi_dbconn import Database, Observer
from asgi_dbconn.cli.ping import ask
from tests.cli.project import Project
from tests.support.ports import LOOPBACK, bound_socket, free_port
from tests.support.postgres import PostgresServer
from tests.support.postgres_cluster import SUPERUSER, PostgresCluster
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.server

REGISTRY = """
    import os
    from asgi_dbconn import Database, Registry

    print("imported")
    models = Registry(
        os.environ.get("MAIN_DATABASE", "sqlite:///main.sqlite"),
        extra={{"audit": {audit}}},
        connect_timeout=1.0,
        pool_size=7,
    )
"""


def dead_url() -> str:
    return f"postgresql://anne:secret@{LOOPBACK}:{free_port()}/audit"


def with_audit(project: Project, url: str, *, optional: bool = False) -> None:
    """Write a registry of two databases, of which the second is ``url``."""
    audit = f"Database({url!r}, name='audit', optional=True)" if optional else repr(url)
    project.write("main.py", REGISTRY.format(audit=audit))


def as_json(project: Project, *args: str, **variables: str) -> tuple[int, dict[str, Any]]:
    ran = project.run("check", "--json", *args, **variables)
    assert ran.stderr == "imported\n"
    found: dict[str, Any] = json.loads(ran.stdout)
    return ran.returncode, found


def test_databases_that_answer_get_a_line_each(project: Project, database_url: str) -> None:
    with_audit(project, "sqlite:///audit.sqlite")
    ran = project.run("check", MAIN_DATABASE=database_url)
    assert (ran.returncode, ran.stderr) == (0, "")
    _, first, second = ran.stdout.splitlines()
    server = "SQLite 3." if database_url.startswith("sqlite") else "PostgreSQL "
    for line, name, product in ((first, "default", server), (second, "audit", "SQLite 3.")):
        assert line.startswith(f"up    {name}")
        assert product in line
        assert line.endswith(" ms  pool of 7")


def test_a_dead_database_is_an_exit_code_with_cause_and_remedy(project: Project) -> None:
    with_audit(project, dead_url())
    ran = project.run("check")
    assert (ran.returncode, ran.stderr) == (1, "")
    _, first, second, why = ran.stdout.splitlines()
    assert first.startswith("up    default")
    assert second.startswith("down  audit    postgresql+asyncpg://anne:***@")
    assert "Connect call failed" in why
    assert "Is the server running" in why
    assert "secret" not in ran.stdout


def test_the_json_is_all_there_is_on_the_standard_output(project: Project) -> None:
    with_audit(project, dead_url())
    code, found = as_json(project)
    assert code == 1
    assert found["status"] == "unhealthy"
    up, down = found["databases"]
    assert up.keys() == down.keys()
    assert up["latency_ms"] > 0
    assert up | {"version": "", "latency_ms": 0} == {
        "status": "up",
        "name": "default",
        "url": "sqlite+aiosqlite:///main.sqlite",
        "optional": False,
        "server": "SQLite",
        "pool_size": 7,
        "version": "",
        "latency_ms": 0,
        "error": None,
        "code": None,
    }
    assert (down["status"], down["version"], down["latency_ms"]) == ("down", None, None)
    assert down["code"] == "DBC200"
    assert "secret" not in json.dumps(found)


def test_an_optional_database_may_be_down(project: Project) -> None:
    with_audit(project, dead_url(), optional=True)
    code, found = as_json(project)
    assert (code, found["status"]) == (0, "degraded")
    assert [row["optional"] for row in found["databases"]] == [False, True]
    assert "the application starts without it" in project.run("check").stdout


def test_only_some_may_be_asked(project: Project) -> None:
    with_audit(project, dead_url())
    code, found = as_json(project, "--database", "default")
    assert code == 0
    assert [row["name"] for row in found["databases"]] == ["default"]


def test_a_database_that_there_is_not_is_named_with_those_that_there_are(project: Project) -> None:
    with_audit(project, dead_url())
    ran = project.run("check", "--database", "adit")
    assert ran.returncode == 2
    assert "there is no database 'adit'; the names are: default, audit" in ran.stderr


@pytest.mark.postgres
def test_a_network_that_stalls_does_not_hold_it_up(
    project: Project, proxy: Proxy, postgres_url: str
) -> None:
    with_audit(project, proxy.url_for(postgres_url))
    proxy.set_mode("stall")
    began = time.monotonic()
    code, found = as_json(project)
    # connect_timeout is 1 s, and the process takes its time to start.
    assert time.monotonic() - began < 15
    assert code == 1
    assert found["databases"][1]["code"] == "DBC201"


@pytest.mark.postgres
async def test_a_server_that_stalls_once_it_is_connected_to_has_no_longer_than_a_connect(
    proxy: Proxy, postgres_url: str
) -> None:
    class Stalling(Observer):
        def database_connected(self, database: str) -> None:
            proxy.set_mode("stall")

    database = Database(proxy.url_for(postgres_url), connect_timeout=0.5)
    answer = await ask("default", database, 0.0, Stalling())
    assert answer.status == "down"
    assert answer.error == "It accepted a connection, and did not answer in 0.5 s."
    proxy.set_mode("pass")


async def test_a_password_that_cannot_be_had_is_an_answer_too() -> None:
    def password() -> str:
        raise LookupError("the vault is closed")

    database = Database("postgresql://anne@127.0.0.1:1/shop", password=password)
    answer = await ask("default", database, 0.0, Observer())
    assert answer.status == "down"
    assert "the vault is closed" in (answer.error or "")


def test_an_optional_database_is_not_waited_for(project: Project) -> None:
    with_audit(project, dead_url(), optional=True)
    began = time.monotonic()
    assert project.run("check", "--wait", "50").returncode == 0
    assert time.monotonic() - began < 40


def test_a_server_that_is_no_database_is_told(project: Project) -> None:
    with bound_socket() as listening:
        listening.listen()
        with_audit(project, f"postgresql://{LOOPBACK}:{listening.getsockname()[1]}/audit")
        code, found = as_json(project)
    assert code == 1
    assert found["databases"][1]["status"] == "down"


@pytest.mark.postgres
def test_what_waiting_does_not_mend_is_not_waited_for(
    project: Project, postgres: PostgresServer
) -> None:
    with_audit(project, postgres.url_for("no_such_database"))
    began = time.monotonic()
    ran = project.run("check", "--wait", "40")
    assert time.monotonic() - began < 20
    assert ran.returncode == 1
    assert "no_such_database" in ran.stdout


def test_waiting_has_an_end(project: Project) -> None:
    with_audit(project, dead_url())
    ran = project.run("check", "--wait", "0.5")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "Gave up after" in ran.stdout
    assert "1 attempt" not in ran.stdout


@contextmanager
def starting_later() -> Iterator[tuple[str, Thread]]:
    """The URL of a PostgreSQL that does not run yet, and the thread that will start it."""
    cluster = PostgresCluster()
    thread = Thread(target=cluster.start)
    try:
        yield f"postgresql://{SUPERUSER}@{LOOPBACK}:{cluster.port}/postgres", thread
    finally:
        if thread.ident is not None:
            thread.join()
        cluster.remove()


@pytest.mark.postgres
def test_a_server_that_starts_meanwhile_is_waited_for(project: Project) -> None:
    with starting_later() as (url, starting):
        with_audit(project, url)
        with project.terminal("check", "--wait", "40") as terminal:
            terminal.wait_for(r"waiting \d+ s more for audit: Database 'audit' .* gave no conn")
            starting.start()
            assert terminal.ended() == 0
    # The line with the progress is gone, and the report stands in its place.
    lines = terminal.text.rstrip().splitlines()
    assert "up    audit" in lines[-1]
    assert "PostgreSQL " in lines[-1]
    assert terminal.raw.rpartition("\r\x1b[K")[2].lstrip().startswith("\x1b[32mup")


def test_colours_are_for_terminals_and_may_be_switched_off(project: Project) -> None:
    with_audit(project, "sqlite:///audit.sqlite")
    with project.terminal("check") as terminal:
        assert terminal.ended() == 0
    assert "\x1b[32mup" in terminal.raw
    with project.terminal("check", NO_COLOR="1") as terminal:
        assert terminal.ended() == 0
    assert "\x1b" not in terminal.raw
    assert "\x1b" not in project.run("check").stdout


def test_ctrl_c_ends_the_waiting(project: Project) -> None:
    with_audit(project, dead_url())
    with project.terminal("check", "--wait", "600") as terminal:
        terminal.wait_for("more for audit:")
        terminal.interrupt()
        assert terminal.ended() == 1
    assert "Aborted" in terminal.text
    assert "Traceback" not in terminal.text
    wait_until(lambda: terminal.text.endswith("Aborted!\n"), 1, message=lambda: terminal.text)
