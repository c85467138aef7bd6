"""The situations in which synchronous code can call ``run_sync``, each as one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from asgi_dbconn import run_sync

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]
KINDS: dict[str, LoopFactory] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
PLACES = ("nowhere", "idle", "below", "inside", "elsewhere", "in_thread")


class Place:
    """Calls ``run_sync`` where the name says, on loops of one kind."""

    def __init__(self, name: str, factory: LoopFactory) -> None:
        self.name = name
        self.factory = factory

    def run(self, work: Callable[[], Any], timeout: float | None = None) -> Any:
        """What ``run_sync(work())`` gives there."""
        result: Any = getattr(self, f"_{self.name}")(work, timeout)
        return result

    @property
    def thread_is_ours(self) -> bool:
        """Whether the thread that calls is also the one that does the work."""
        return self.name in {"nowhere", "idle", "inside"}

    def _nowhere(self, work: Callable[[], Any], timeout: float | None) -> Any:
        return run_sync(work(), timeout)

    def _idle(self, work: Callable[[], Any], timeout: float | None) -> Any:
        with open_loop(self.factory) as loop:
            return run_sync(work(), timeout, loop=loop)

    def _below(self, work: Callable[[], Any], timeout: float | None) -> Any:
        async def outer() -> Any:
            return run_sync(work(), timeout)

        return run(outer(), self.factory)

    def _inside(self, work: Callable[[], Any], timeout: float | None) -> Any:
        async def outer() -> Any:
            with open_loop(self.factory) as loop:
                return run_sync(work(), timeout, loop=loop)

        return run(outer(), self.factory)

    def _elsewhere(self, work: Callable[[], Any], timeout: float | None) -> Any:
        with loop_in_thread(self.factory) as loop:
            return run_sync(work(), timeout, loop=loop)

    def _in_thread(self, work: Callable[[], Any], timeout: float | None) -> Any:
        async def outer() -> Any:
            home = asyncio.get_running_loop()
            return await asyncio.to_thread(lambda: run_sync(work(), timeout, loop=home))

        return run(outer(), self.factory)


async def forever() -> None:
    """Work that ends only by being cancelled."""
    await asyncio.get_running_loop().create_future()


def run(work: Coroutine[Any, Any, Any], factory: LoopFactory = asyncio.SelectorEventLoop) -> Any:
    """``asyncio.run`` on a loop of that kind, which leaves the thread's loop as it was."""
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


@contextmanager
def open_loop(factory: LoopFactory = asyncio.SelectorEventLoop) -> Iterator[Loop]:
    loop = factory()
    try:
        yield loop
    finally:
        loop.close()


@contextmanager
def loop_in_thread(factory: LoopFactory = asyncio.SelectorEventLoop) -> Iterator[Loop]:
    """A loop that somebody else runs, without a task of its own."""
    loop = factory()
    thread = threading.Thread(target=loop.run_forever, name="the other thread")
    thread.start()
    try:
        yield loop
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
        thread.join()


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What ``work(number)`` returns, or raises, in that many threads that begin together."""
    outcomes: list[Any] = [None] * count
    together = threading.Barrier(count)

    def one(number: int) -> None:
        together.wait()
        try:
            outcomes[number] = work(number)
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    return outcomes
