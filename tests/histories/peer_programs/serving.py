"""What each peer's program does: execute a program, write as strangers, and report.

Orders come as lines of JSON on the standard input, and the answers go as lines of JSON to the
standard output. Between the answers the orchestrator looks at the database.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import sys
import warnings
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, TextIO

from tests.histories import steps as language
from tests.histories.log import Log
from tests.histories.runner import Place, Runner
from tests.histories.steps import Kill, Program
from tests.histories.witness import PostgreSQLWitness

__all__ = ["SLOW_SQL", "PeerRunner", "serve"]

SLOW_SQL: Final = "SELECT pg_sleep({seconds})"
"""A statement that takes some time."""


class PeerRunner(Runner):
    """The runner of a peer: it is opened and closed for each program."""

    @abstractmethod
    async def connect(self, url: str, pool_size: int) -> None: ...
    @abstractmethod
    async def disconnect(self) -> None: ...
    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Return a transaction, or a savepoint inside of one."""

    def block(self, step: language.Block) -> AbstractAsyncContextManager[Any]:
        return self.transaction()


def serve(make: Callable[[Program, Log], PeerRunner]) -> None:
    """Execute what the standard input asks for, until it ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # Whatever a library prints goes to the standard error.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        order = json.loads(line)
        program: Program = pickle.loads(base64.b64decode(order["program"]))
        asyncio.run(_execute(make, program, order["url"], answers))


async def _execute(
    make: Callable[[Program, Log], PeerRunner], program: Program, url: str, answers: TextIO
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    log = Log()
    runner = make(program, log)
    killer = PostgreSQLWitness(url)
    for fault in program.faults:
        if isinstance(fault, Kill):
            runner.at_await(fault.at, partial(_kill, killer, fault.which))
    try:
        await runner.connect(url, program.pool_size)
        await runner.run()
        await _strangers(runner, program)
        _answer(answers, log.entries)
        await asyncio.to_thread(sys.stdin.readline)  # the orchestrator has looked
        try:
            await asyncio.wait_for(runner.disconnect(), 3.0)
        except Exception as error:
            _answer(answers, {"disconnected": type(error).__name__})
        else:
            _answer(answers, {"disconnected": None})
    finally:
        killer.close()


def _answer(answers: TextIO, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _kill(killer: PostgreSQLWitness, which: int) -> None:
    killer.kill(which)


async def _strangers(runner: PeerRunner, program: Program) -> None:
    at = runner.outside()
    is_disturbed = any(isinstance(fault, Kill) for fault in program.faults)

    async def in_transaction(token: str) -> None:
        async with runner.transaction():
            await runner.create(token, 1)

    async def write(name: str, number: int, call: Callable[[str], Awaitable[None]]) -> None:
        # A connection that was killed may be met once by each who comes later.
        for attempt in range(4 if is_disturbed else 1):
            token = f"{name} {number}.{attempt}"
            if await _has_written(runner, at, name, token, call):
                return
        runner.log.write("refused", name=name)

    ways: tuple[tuple[str, Callable[[str], Awaitable[None]]], ...] = (
        ("create()", lambda token: runner.create(token, 1)),
        ("transaction", in_transaction),
    )
    for name, call in ways:
        writes = (write(name, number, call) for number in range(program.pool_size))
        await asyncio.gather(*writes)


async def _has_written(
    runner: PeerRunner, at: Place, name: str, token: str, call: Callable[[str], Awaitable[None]]
) -> bool:
    try:
        async with asyncio.timeout(1.5):
            await runner.operation(
                at, f"stranger's {name}", [("put", token, 1)], partial(call, token)
            )
    except Exception:
        return False
    return True
