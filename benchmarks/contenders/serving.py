"""What every contender's program does: it waits for orders, and says how long they took.

Orders come as lines of JSON on the standard input, and the answers go as lines of JSON to the
standard output. Whatever a library prints goes to the standard error, and so does the traceback
of a program that fails, which then ends. The end of the input ends the program.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import count, islice
from typing import Any, Final, Protocol, TextIO

from benchmarks.contenders.work import COLUMNS, USERS, keys, new_user

__all__ = ["Contender", "serve"]

Open = Callable[[str], AbstractAsyncContextManager["Contender"]]
Read = Callable[[Any, str], Any]


class Contender(Protocol):
    """What an application does with its users' table, each time by itself."""

    async def get(self, key: int) -> Any:
        """The user with this primary key."""
        ...

    async def page(self) -> Sequence[Any]:
        """The first hundred users, in the order of their keys."""
        ...

    async def create(self, values: dict[str, Any]) -> int:
        """Insert one user; gives the key that the database chose."""
        ...

    async def update(self, key: int, age: int) -> object:
        """Change one column of the user with this primary key."""
        ...

    async def count(self) -> int:
        """How many users there are."""
        ...


def serve(
    open_contender: Open,
    packages: Iterable[str],
    *,
    read: Read = getattr,
    request: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
) -> None:
    """Be the program: connect to the URL in the arguments, and do what is ordered.

    ``read`` takes a column out of what the contender returns. A task spends its life in a
    ``request``, where the contender's framework wants to know about those.
    """
    # Nobody but us writes to where the answers go.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    versions = {package: version(package) for package in packages}
    asyncio.run(_serve(open_contender(sys.argv[1]), versions, read, request, answers))


async def _serve(
    opening: AbstractAsyncContextManager[Contender],
    versions: dict[str, str],
    read: Read,
    request: Callable[[], AbstractAsyncContextManager[object]],
    answers: TextIO,
) -> None:
    async with opening as contender:
        operations = _Operations(contender)
        # What was imported is nobody's garbage, and is not to be looked through again.
        gc.collect()
        gc.freeze()
        print(json.dumps({"versions": versions}), file=answers, flush=True)
        async for order in _orders():
            async with asyncio.timeout(_PATIENCE):
                if order["do"] == "check":
                    async with request():
                        answer = await _seen(contender, order["key"], read)
                else:
                    turns = operations[order["do"]]
                    answer = await _timed(turns, order["times"], order["tasks"], request)
            print(json.dumps(answer), file=answers, flush=True)


_PATIENCE: Final = 60.0
"""Seconds for one order; none takes more than a few."""


async def _orders() -> AsyncIterator[Any]:
    # The loop goes on meanwhile, as it does between two requests.
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield json.loads(line)


class _Operations(dict[str, Iterator[Callable[[], Awaitable[object]]]]):
    """By the name of each operation its turns, without end."""

    def __init__(self, contender: Contender) -> None:
        get, page, total = contender.get, contender.page, contender.count
        create, update = contender.create, contender.update
        whose = f"process-{os.getpid()}"
        super().__init__(
            get=(partial(get, key) for key in keys()),
            page=(page for _ in count()),
            update=(partial(update, key, key % 90) for key in keys()),
            create=(partial(create, new_user(number, whose)) for number in count()),
            count=(total for _ in count()),
        )


async def _timed(
    turns: Iterator[Callable[[], Awaitable[object]]],
    times: int,
    tasks: int,
    request: Callable[[], AbstractAsyncContextManager[object]],
) -> dict[str, float]:
    """So many turns by so many tasks, each of which has had one before the clock runs.

    Connections that rested while others were measured are looked after in that first turn: it is
    the measurement that made them rest, and no application.
    """
    counted = islice(turns, times)
    is_ready, goes = asyncio.Barrier(tasks + 1), asyncio.Event()
    is_done = asyncio.Barrier(tasks + 1)

    async def work() -> None:
        async with request():
            await next(turns)()
            await is_ready.wait()
            await goes.wait()
            for turn in counted:
                await turn()
            await is_done.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
        await is_ready.wait()
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        goes.set()
        await is_done.wait()
        taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return taken | {"turns": tasks + times}


async def _seen(contender: Contender, key: int, read: Read) -> dict[str, Any]:
    """What one turn of each operation has to do with the table, for others to compare."""
    page = await contender.page()
    one = await contender.get(key)
    total = await contender.count()
    created = await contender.create(new_user(USERS, f"check-{os.getpid()}"))
    await contender.update(created, 99)
    return {
        "page": [_plain(row, read) for row in page],
        "one": _plain(one, read),
        "count": total,
        "created": created,
        "changed": _plain(await contender.get(created), read),
    }


def _plain(found: Any, read: Read) -> list[Any]:
    values = [read(found, column) for column in COLUMNS]
    return [
        value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for value in values
    ]
