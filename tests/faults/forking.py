"""A program that forks in several ways; run by the tests, it prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from asgi_dbconn import Database
from tests.faults.backends import backend

PID = text("SELECT pg_backend_pid()")


async def backends(database: Database) -> list[int]:
    """The backends of two connections that are held at the same time."""
    async with database.connection() as one:
        first = int((await one.execute(PID)).scalar_one())
        async with database.engine.connect() as two:
            return [first, int((await two.execute(PID)).scalar_one())]


def in_child(work: Callable[[], Any], end: Callable[[int], Any] = sys.exit) -> Any:
    """What ``work`` returns in a forked child that ends as programs do, with ``sys.exit``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, json.dumps(work()).encode())
        end(0)
    os.close(writing)
    answer = os.read(reading, 65536)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    return {"answer": json.loads(answer or "null"), "status": status}


def idle(url: str) -> dict[str, Any]:
    """The parent has two idle connections when it forks."""
    # Not in a `with` block: the child would leave it, too, and close the parent's loop.
    database, runner = Database(url, pool_size=2), asyncio.Runner()
    runner.run(database.connect())
    before = sorted(runner.run(backends(database)))
    forked = in_child(
        lambda: {"connected": database.is_connected, "backend": asyncio.run(backend(database))}
    )
    after = sorted(runner.run(backends(database)))
    runner.run(database.disconnect())
    runner.close()
    return {"before": before, "after": after, "child": forked}


async def busy(url: str) -> dict[str, Any]:
    """A query of the parent is under way when it forks, as multiprocessing does it."""
    async with Database(url, pool_size=2) as database:
        sending = asyncio.Event()

        async def slow() -> int:
            async with database.connection() as connection:
                sending.set()  # and no turn of the loop lies between this and the statement
                slowly = text("SELECT 7 FROM pg_sleep(0.5)")
                return int((await connection.execute(slowly)).scalar_one())

        working = asyncio.create_task(slow())
        await sending.wait()
        # Such a child must not unwind into the loop that it inherited.
        forked = in_child(lambda: None, end=os._exit)
        return {"result": await working, "child": forked}


def preload(url: str) -> dict[str, Any]:
    """Connected at import, as with gunicorn --preload; then several workers are forked."""
    database, runner = Database(url, pool_size=2), asyncio.Runner()
    runner.run(database.connect())
    parent = runner.run(backend(database))
    workers = [in_child(lambda: asyncio.run(backend(database))) for _ in range(3)]
    again = runner.run(backend(database))
    runner.run(database.disconnect())
    runner.close()
    return {"parent": parent, "again": again, "workers": workers}


def main(way: str, url: str) -> None:
    # Python warns of forks in multi-threaded programs since 3.12; that is what is tested here.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    saw = asyncio.run(busy(url)) if way == "busy" else {"idle": idle, "preload": preload}[way](url)
    print(json.dumps(saw))


if __name__ == "__main__":
    main(*sys.argv[1:])
