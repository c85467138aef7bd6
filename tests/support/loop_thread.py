"""An event loop in a thread of its own, for what has to work beside the code under test."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

INFRASTRUCTURE_PREFIX = "test-"

T = TypeVar("T")

_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def is_infrastructure_thread(thread: threading.Thread) -> bool:
    """Whether `thread` belongs to the test infrastructure, by its name."""
    return thread.name.startswith(INFRASTRUCTURE_PREFIX)


def is_infrastructure_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` runs in a `LoopThread`."""
    return loop in _loops


class LoopThread:
    """Runs coroutines for synchronous callers of any thread, until `close`."""

    def __init__(self, name: str) -> None:
        if not name.startswith(INFRASTRUCTURE_PREFIX):
            raise ValueError(f"the name must start with {INFRASTRUCTURE_PREFIX!r}: {name!r}")
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def name(self) -> str:
        return self._thread.name

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        """The result of `coroutine`, which runs in the thread; blocks the caller."""
        if not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError(f"the thread {self.name} has ended")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, close the loop and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _main(self) -> None:
        # Named, because a test may have installed a policy with another kind of loop.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        _loops.add(self._loop)
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()
