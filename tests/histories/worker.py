"""A second process of the application, forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from tests.histories.log import Entry, Log, read
from tests.histories.product import Product, ProductRunner
from tests.histories.steps import Program, Terminate

__all__ = ["Worker"]


class Worker:
    """Executes the second process's requests of one program after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def start(self, program: Program, url: str) -> None:
        """Fork a process for the program; it begins immediately."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.histories.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
        self._number += 1
        order = {
            "program": base64.b64encode(pickle.dumps(program)).decode(),
            "url": url,
            "file": str(self._file),
        }
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(json.dumps(order).encode() + b"\n")
            stdin.flush()

    def wait(self) -> list[Entry]:
        """Return what the process has written, once it has ended."""
        process = self._process
        if process is None or process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the second process is gone; its errors are on the standard error")
        entries = read(self._file)
        self._file.unlink(missing_ok=True)
        return entries

    @property
    def _file(self) -> Path:
        return self._folder / f"worker-{self._number}.log"


def _serve() -> None:
    for line in sys.stdin.buffer:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _execute(order)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _execute(order: dict[str, str]) -> None:
    program: Program = pickle.loads(base64.b64decode(order["program"]))
    log = Log(process=1, file=Path(order["file"]))
    try:
        asyncio.run(_main(program, order["url"], log))
    except BaseException as error:
        log.write("process failed", error=log.describe(error))
    finally:
        log.write("process ended")
        os._exit(0)


async def _main(program: Program, url: str, log: Log) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    product = Product(url, program.pool_size, program.query_timeout)
    runner = ProductRunner(product, program, log, process=1)
    for fault in program.faults:
        if isinstance(fault, Terminate):
            if fault.graceful:
                # As an ASGI server: requests are cancelled, and the lifespan ends.
                loop.add_signal_handler(signal.SIGTERM, runner.cancel_all)
            runner.at_await(fault.at, partial(_terminate, log, graceful=fault.graceful))
    async with product.models:
        with suppress(asyncio.CancelledError):
            await runner.run()


def _terminate(log: Log, *, graceful: bool) -> None:
    log.write("SIGTERM", graceful=graceful)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve()
