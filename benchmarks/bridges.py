"""The ways from synchronous code to a result of asynchronous code, in each place where they work.

A place is where the caller stands: what loops there are, which of them run, and in which thread.

asgiref is imported by the places that need it, and those come last. From then on run_sync has to
live beside it in that process, which takes time that most applications do not spend.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop
from anyio import from_thread, to_thread
from sqlalchemy.util import await_, greenlet_spawn

from asgi_dbconn import DatabaseNotConnectedWarning, Registry, run_sync
from benchmarks.edgy import edgy_run_sync
from benchmarks.harness import Comparison, Contender, Effort, Run, compare, compare_now

__all__ = [
    "ASYNCIO_RUN",
    "AWAIT",
    "AWAIT_",
    "EDGY",
    "ENVIRONMENT",
    "KINDS",
    "OURS",
    "PLACES",
    "PORTAL",
    "THREADSAFE",
    "UNTIL_COMPLETE",
    "Place",
    "Stage",
    "loop_in_thread",
]

OURS: Final = "run_sync"
ENVIRONMENT: Final = "run_sync, with_async_env"

ASYNCIO_RUN: Final = "asyncio.run"
RUNNER: Final = "asyncio.Runner.run"
UNTIL_COMPLETE: Final = "loop.run_until_complete"
THREADSAFE: Final = "run_coroutine_threadsafe"
ASGIREF: Final = "asgiref async_to_sync"
PORTAL: Final = "anyio BlockingPortal.call"
FROM_THREAD: Final = "anyio from_thread.run"
EDGY: Final = "Edgy's run_sync"
AWAIT: Final = "await, by async code"
AWAIT_: Final = "SQLAlchemy's await_"

KINDS: Final[Mapping[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

Work = Callable[[], Coroutine[Any, Any, object]]
Call = Callable[[], object]
"""One operation: synchronous code that has the work done, whatever that takes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a comparison is played, and what is."""

    title: str
    work: Work
    models: Registry
    """Connected by every place that has a loop to connect it on."""
    kind: str
    effort: Effort
    edgy: Callable[..., Any] = field(default_factory=edgy_run_sync)

    @property
    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        return KINDS[self.kind]

    def plays(self, main: Coroutine[Any, Any, Comparison]) -> Comparison:
        """``main`` in the loop of an application, in this thread."""
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main)


@dataclass(frozen=True, slots=True)
class Place:
    """One of the places, the way that is 1.00 there, and how all of them are compared."""

    name: str
    baseline: str
    compare: Callable[[Stage, str], Comparison]
    kinds: Sequence[str] = tuple(KINDS)


def _on_idle_loop(stage: Stage, baseline: str) -> Comparison:
    work, loop = stage.work, stage.loop_factory()
    # An environment makes a loop of asyncio's kind for itself; uvloop's must be given to it.
    given = None if stage.kind == "asyncio" else loop
    try:
        with (
            stage.models.with_async_env(given),
            asyncio.Runner(loop_factory=stage.loop_factory) as runner,
        ):
            calls = {
                UNTIL_COMPLETE: lambda: loop.run_until_complete(work()),
                RUNNER: lambda: runner.run(work()),
                EDGY: lambda: stage.edgy(work(), loop=loop),
                OURS: lambda: run_sync(work(), loop=loop),
                ENVIRONMENT: lambda: run_sync(work()),
            }
            found = compare_now(stage.title, _contenders(calls), stage.effort, baseline=baseline)
            # The pool that was used on this loop goes while the loop still can.
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    return found


def _inside_a_running_loop(stage: Stage, baseline: str) -> Comparison:
    work = stage.work
    options = {"loop_factory": stage.loop_factory}

    async def main() -> Comparison:
        # The loop stands still during a batch, as it does for every synchronous call here.
        with (
            loop_in_thread(stage.loop_factory) as beside,
            from_thread.start_blocking_portal(backend_options=options) as portal,
        ):
            calls = {
                THREADSAFE: lambda: asyncio.run_coroutine_threadsafe(work(), beside).result(),
                PORTAL: lambda: portal.call(work),
                EDGY: lambda: stage.edgy(work()),
                OURS: lambda: run_sync(work()),
            }
            async with stage.models:
                return await compare(
                    stage.title, _contenders(calls), stage.effort, baseline=baseline
                )

    return stage.plays(main())


def _in_models_sync(stage: Stage, baseline: str) -> Comparison:
    work, models = stage.work, stage.models

    async def awaiting(operations: int) -> None:
        for _ in range(operations):
            await work()

    async def main() -> Comparison:
        async with models:
            contenders = [
                Contender(AWAIT, awaiting),
                *_contenders({AWAIT_: lambda: await_(work())}, greenlet_spawn),
                *_contenders({OURS: lambda: run_sync(work())}, models.sync),
            ]
            return await compare(stage.title, contenders, stage.effort, baseline=baseline)

    return stage.plays(main())


def _nowhere(stage: Stage, baseline: str) -> Comparison:
    from asgiref.sync import async_to_sync

    work = stage.work
    calls = {
        ASYNCIO_RUN: lambda: asyncio.run(work()),
        ASGIREF: async_to_sync(work),
        EDGY: lambda: stage.edgy(work()),
        OURS: lambda: run_sync(work()),
    }
    with warnings.catch_warnings():
        # A loop for each call has a connection for each call; that is what it warns about.
        warnings.simplefilter("ignore", DatabaseNotConnectedWarning)
        return compare_now(stage.title, _contenders(calls), stage.effort, baseline=baseline)


def _in_a_worker_thread(stage: Stage, baseline: str) -> Comparison:
    from asgiref.sync import async_to_sync, sync_to_async

    work = stage.work

    async def in_asgirefs_thread(batch: Callable[[int], None], operations: int) -> None:
        await sync_to_async(batch)(operations)

    async def main() -> Comparison:
        home = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            portal = await stack.enter_async_context(from_thread.BlockingPortal())
            await stack.enter_async_context(stage.models)
            calls: Mapping[str, Call] = {
                THREADSAFE: lambda: asyncio.run_coroutine_threadsafe(work(), home).result(),
                PORTAL: lambda: portal.call(work),
                # It leaves the loop it is given alone, and uses another one beside it.
                EDGY: lambda: stage.edgy(work(), loop=home),
                OURS: lambda: run_sync(work(), loop=home),
            }
            contenders = [
                *_contenders(calls, asyncio.to_thread),
                # These two work in threads that they have made themselves.
                *_contenders({FROM_THREAD: lambda: from_thread.run(work)}, to_thread.run_sync),
                *_contenders({ASGIREF: async_to_sync(work)}, in_asgirefs_thread),
            ]
            return await compare(stage.title, contenders, stage.effort, baseline=baseline)

    return stage.plays(main())


PLACES: Final = {
    "idle": Place("on an idle loop", UNTIL_COMPLETE, _on_idle_loop),
    "inside": Place("inside a running loop", THREADSAFE, _inside_a_running_loop),
    "greenlet": Place("inside models.sync", AWAIT, _in_models_sync, kinds=("asyncio",)),
    "none": Place("without a loop", ASYNCIO_RUN, _nowhere, kinds=("asyncio",)),
    "worker": Place(
        "from a worker thread to the application's loop", THREADSAFE, _in_a_worker_thread
    ),
}


@contextmanager
def loop_in_thread(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs beside this thread, and does nothing unless it is asked."""
    loop = factory()
    thread = threading.Thread(target=loop.run_forever, name="a loop beside")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _contenders(
    calls: Mapping[str, Call], enter: Callable[..., Awaitable[object]] | None = None
) -> list[Contender]:
    """``enter(batch, operations)`` brings a whole batch to where its calls are made."""
    return [Contender(name, _batches_of(call, enter)) for name, call in calls.items()]


def _batches_of(call: Call, enter: Callable[..., Awaitable[object]] | None) -> Run:
    def batch(operations: int) -> None:
        for _ in range(operations):
            call()

    if enter is None:
        return batch

    async def batch_elsewhere(operations: int) -> None:
        await enter(batch, operations)

    return batch_elsewhere
