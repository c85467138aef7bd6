"""A server process answers, ends by signals, and shows what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import is_running
from tests.support.servers import ServerExited, UvicornProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[3]

# Depending on its version, Uvicorn hands on the signal once it has shut down in order.
ENDED_BY = {signal.SIGTERM: (0, -signal.SIGTERM), signal.SIGINT: (0, -signal.SIGINT)}

APP = """
import asyncio
import json
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("application starts", flush=True)
        if os.environ.get("FAIL"):
            await send({"type": "lifespan.startup.failed", "message": "no luck"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("application stops", flush=True)
        if os.environ.get("HANG"):
            await asyncio.Event().wait()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = (await receive())["body"]
    answer = json.dumps([scope["method"], scope["path"], body.decode()]).encode()
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": answer})
"""

STARTS_AND_WAITS = """
import sys
from tests.support.servers import UvicornProcess
with UvicornProcess("served:app", cwd=sys.argv[1]) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APP)
    return tmp_path


def test_it_answers(folder: Path) -> None:
    with UvicornProcess("served:app", cwd=folder) as server:
        response = server.get("/there")
        assert (response.status_code, response.json()) == (418, ["GET", "/there", ""])
        assert server.post("/there", {"a": 1}).json() == ["POST", "/there", '{"a":1}']
        assert server.returncode is None
    assert server.returncode in ENDED_BY[signal.SIGTERM]
    assert "application stops" in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_in_order(folder: Path, number: signal.Signals) -> None:
    with UvicornProcess("served:app", cwd=folder) as server:
        server.get("/")
        if number is signal.SIGTERM:
            server.terminate()
        else:
            server.interrupt()
        assert server.wait(10) in ENDED_BY[number]
        assert "application stops" in server.log


def test_a_failed_start_raises_with_the_log(folder: Path) -> None:
    server = UvicornProcess("served:app", cwd=folder, env={"FAIL": "1"})
    with pytest.raises(ServerExited, match="no luck") as caught, server:
        pass
    assert caught.value.returncode == server.returncode == 3
    assert "application starts" in caught.value.log


def test_an_unknown_app_raises_with_the_log(folder: Path) -> None:
    with pytest.raises(ServerExited, match="absent"), UvicornProcess("absent:app", cwd=folder):
        pass


def test_a_shutdown_that_hangs_is_killed_and_reported(folder: Path) -> None:
    server = UvicornProcess("served:app", cwd=folder, env={"HANG": "1"}, shutdown_timeout=0.5)
    with pytest.raises(TimeoutError, match="application stops"), server:
        pass
    assert server.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.killpg(server.pid, 0)


def test_the_error_of_the_test_is_not_hidden(folder: Path) -> None:
    server = UvicornProcess("served:app", cwd=folder, env={"HANG": "1"}, shutdown_timeout=0.5)
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert server.returncode == -signal.SIGKILL


def test_arguments_reach_the_server(folder: Path) -> None:
    with UvicornProcess("served:app", cwd=folder, args=["--workers", "2"]) as server:
        assert server.get("/").status_code == 418
    assert server.log.count("application starts") == 2


def test_it_ends_when_the_tests_are_killed(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, folder],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_running(pid)
        process.kill()
    wait_until(lambda: not is_running(pid), 10)
