"""What a test has left behind: threads, event loops, tasks, sessions of a database server."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress

from tests.support.loop_thread import is_infrastructure_loop, is_infrastructure_thread
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until, wait_until_async

__all__ = [
    "Leftovers",
    "assert_no_sessions",
    "no_leftovers",
    "no_unread_errors",
    "open_loops",
    "running_tasks",
    "threads_now",
    "wait_until",
    "wait_until_async",
]

Loop = asyncio.AbstractEventLoop
Task = asyncio.Task[object]


@dataclass(frozen=True)
class Leftovers:
    """The threads, loops and tasks that exist; the infrastructure's own are not among them."""

    threads: list[threading.Thread] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    @classmethod
    def now(cls) -> Leftovers:
        found = _instances(asyncio.AbstractEventLoop, asyncio.Task)
        loops = [row for row in found if isinstance(row, Loop)]
        tasks = [row for row in found if isinstance(row, asyncio.Task)]
        return cls(
            threads_now(),
            [loop for loop in loops if not (loop.is_closed() or is_infrastructure_loop(loop))],
            [
                task
                for task in tasks
                if not (task.done() or is_infrastructure_loop(task.get_loop()))
            ],
        )

    def __bool__(self) -> bool:
        return bool(self.threads or self.loops or self.tasks)

    def __str__(self) -> str:
        kinds = (("thread", self.threads), ("open loop", self.loops), ("task", self.tasks))
        return "\n".join(f"{kind}: {thing!r}" for kind, things in kinds for thing in things)


def threads_now() -> list[threading.Thread]:
    """The threads that are alive, without those of the test infrastructure."""
    return [thread for thread in threading.enumerate() if not is_infrastructure_thread(thread)]


def open_loops() -> list[Loop]:
    """The event loops of all threads that are not closed, whether they run or not."""
    return Leftovers.now().loops


def running_tasks() -> list[Task]:
    """The tasks of all event loops that have not finished."""
    return Leftovers.now().tasks


@contextmanager
def no_leftovers(within: float = 1.0) -> Iterator[None]:
    """Raise AssertionError if the block leaves a thread, an open loop or a pending task behind.

    What existed before the block does not count. A thread that has been told to end may take up
    to `within` seconds. If the block raises, that error is passed on and nothing is checked.
    """
    before = _Before(Leftovers.now())
    yield
    left = before.new_since()
    if left:
        del left
        wait_until(
            lambda: not before.new_since(),
            within,
            message=lambda: f"the following has gone:\n{before.new_since()}",
        )


@contextmanager
def no_unread_errors() -> Iterator[None]:
    """Raise AssertionError if asyncio had to log an error that nobody looked at."""
    unread = _Records(logging.ERROR)
    logger = logging.getLogger("asyncio")
    logger.addHandler(unread)
    try:
        yield
    finally:
        logger.removeHandler(unread)
    texts = [record.getMessage() for record in unread.records]
    assert not texts, "\n".join(texts)


def assert_no_sessions(server: PostgresServer, application_name: str, within: float = 1.0) -> None:
    """Raise AssertionError if clients of that name are connected after `within` seconds."""
    wait_until(
        lambda: not server.sessions(application_name),
        within,
        message=lambda: f"the sessions have gone: {server.sessions(application_name)}",
    )


class _Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _Before:
    """Remembers what existed without keeping it alive."""

    def __init__(self, existing: Leftovers) -> None:
        self._threads = weakref.WeakSet(existing.threads)
        self._loops = weakref.WeakSet(existing.loops)
        self._tasks = weakref.WeakSet(existing.tasks)

    def new_since(self) -> Leftovers:
        now = Leftovers.now()
        return Leftovers(
            [thread for thread in now.threads if thread not in self._threads],
            [loop for loop in now.loops if loop not in self._loops],
            [task for task in now.tasks if task not in self._tasks],
        )


def _instances(*bases: type) -> list[object]:
    """All objects of these types that there are."""
    # By the type alone: `isinstance` would ask the object too, and a lazy proxy would come to
    # life. By the identity of the type, because a metaclass may make its classes unhashable. And
    # without a step of Python for each: they are a hundred thousand, and every test asks twice.
    wanted = {id(subclass) for subclass in _with_subclasses(bases)}
    things = gc.get_objects()
    return list(compress(things, map(wanted.__contains__, map(id, map(type, things)))))


def _with_subclasses(bases: Iterable[type]) -> Iterator[type]:
    for base in bases:
        yield base
        yield from _with_subclasses(base.__subclasses__())
