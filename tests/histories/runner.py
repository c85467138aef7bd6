"""Execute a program and write down how everything in it ended.

The control flow and the verbs that every object mapper has. ``tests.histories.product`` adds what
only this package has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from tests.histories import steps as language
from tests.histories.awaits import counted, statement_of
from tests.histories.log import Log
from tests.histories.steps import Cancel, Program, Step, Steps

__all__ = ["ApplicationError", "Place", "Runner", "Write", "cancelling"]

T = TypeVar("T")

Write = tuple[str, str, int | None]
"""Kind ("put", "delete" or "add"), token or counter, and value."""
_COUNTING: Final = ("update", "remove", "bulk_update")
LONGEST: Final = 12.0
"""Seconds that a program may take; nothing in it waits for longer than that."""


class ApplicationError(Exception):
    """The error of ``Raise``."""


@dataclass(frozen=True)
class Place:
    """The task and the block that a step is executed in."""

    request: int
    task: int
    block: int | None = None
    """The number of the innermost block."""
    handle: Any = None
    """What that block gave."""


@dataclass
class _Running:
    """One task of the program."""

    number: int
    task: asyncio.Task[Any] | None
    cancels: list[Cancel]
    inner: Any = None
    """The coroutine of its steps, until that has ended."""
    awaits: int = 0
    doing: list[str] = field(default_factory=list)
    again: set[int] = field(default_factory=set)
    """Awaits at which it is cancelled once more."""


class Runner(ABC):
    """One execution of the requests of one process."""

    def __init__(self, program: Program, log: Log, process: int = 0) -> None:
        self.program = program
        self.log = log
        self._process = process
        self._tasks: dict[int, _Running] = {}
        self._kept: set[asyncio.Task[None]] = set()
        self._orders: dict[int, int] = {}
        self._awaits = 0
        self._triggers: dict[int, list[Callable[[], None]]] = {}
        self._timers: list[asyncio.TimerHandle] = []

    # -- the object mapper

    @abstractmethod
    def block(self, step: language.Block) -> AbstractAsyncContextManager[Any]: ...
    @abstractmethod
    async def create(self, token: str, value: int) -> None: ...
    @abstractmethod
    async def update(self, token: str, value: int) -> int: ...
    @abstractmethod
    async def remove(self, token: str) -> int: ...
    @abstractmethod
    async def increment(self, counter: int) -> None: ...
    @abstractmethod
    async def read_counter(self, counter: int) -> int:
        """Lock the row and return its value."""

    @abstractmethod
    async def write_counter(self, counter: int, value: int) -> None: ...
    @abstractmethod
    async def get(self, token: str) -> int | None: ...
    @abstractmethod
    async def count(self) -> int: ...
    @abstractmethod
    async def slow(self, seconds: float) -> None: ...

    async def step_of_its_own(self, step: Step, at: Place) -> None:
        """Execute a step that only some object mappers know."""
        raise NotImplementedError(type(step).__name__)

    # -- the program

    def outside(self) -> Place:
        """Return a place outside of the program, for what comes after it."""
        number = self.log.number()
        self._tasks[number] = _Running(number, None, [])
        return Place(-1, number)

    def at_await(self, number: int, action: Callable[[], None]) -> None:
        """Call ``action`` when the tasks have begun to wait for the ``number``-th time."""
        self._triggers.setdefault(number, []).append(action)

    def cancel_all(self) -> None:
        """Cancel every task of the program, as a server does that is told to stop."""
        for task in self._unfinished():
            task.cancel()

    async def run(self) -> None:
        """Return when all tasks have ended, or were given up."""
        for number, request in enumerate(self.program.requests):
            if request.process == self._process:
                self._keep(self._task(request.body, Place(number, 0), "request"))
        await self._finish()
        for timer in self._timers:
            timer.cancel()

    async def _finish(self) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + LONGEST
        while (waiting := self._unfinished()) and (left := deadline - clock()) > 0:
            await asyncio.wait(waiting, timeout=left)
        for running in self._tasks.values():
            if running.task in waiting:
                self.log.write("hang", task=running.number, doing=running.doing[-1:])
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=3.0)

    def _unfinished(self) -> set[asyncio.Task[Any]]:
        tasks = {running.task for running in self._tasks.values() if running.task is not None}
        return {task for task in (*tasks, *self._kept) if not task.done()}

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _task(self, body: Steps, at: Place, how: str) -> Coroutine[Any, Any, None]:
        """Return the coroutine of a new task, which has its number already."""
        number, order = self.log.number(), self._orders.get(at.request, 0)
        self._orders[at.request] = order + 1
        cancels = [
            fault
            for fault in self.program.faults
            if isinstance(fault, Cancel) and (fault.request, fault.task) == (at.request, order)
        ]

        async def execute() -> None:
            running = _Running(number, asyncio.current_task(), cancels)
            self._tasks[number] = running
            self.log.write("task", task=number, parent=at.task, block=at.block, how=how)
            inner = running.inner = self._execute(body, replace(at, task=number), how)
            await counted(inner, lambda: self._suspended(running))

        return execute()

    async def _execute(self, body: Steps, at: Place, how: str) -> None:
        try:
            await self.steps(body, at)
        except BaseException as error:
            described = self.log.describe(error)
            self.log.write("task ended", task=at.task, error=described, cancelling=cancelling())
            if how == "child" or isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise
        else:
            self.log.write("task ended", task=at.task, error=None, cancelling=cancelling())
        finally:
            running = self._tasks[at.task]
            running.inner = None

    def _suspended(self, running: _Running) -> None:
        running.awaits += 1
        for cancel in running.cancels:
            if cancel.at == running.awaits:
                self._cancel(running, cancel.after)
                if cancel.again is not None:
                    running.again.add(running.awaits + cancel.again)
        if running.awaits in running.again:
            self._cancel(running, 0.0, again=True)
        self._awaits += 1
        for action in self._triggers.pop(self._awaits, ()):
            action()

    def _cancel(self, running: _Running, after: float, *, again: bool = False) -> None:
        def cancel() -> None:
            task = running.task
            if task is None or task.done() or running.inner is None:
                return
            self.log.write(
                "cancel", task=running.number, again=again, statement=statement_of(running.inner),
                doing=running.doing[-1] if running.doing else "",
            )  # fmt: skip
            task.cancel()

        loop = asyncio.get_running_loop()
        if after:
            self._timers.append(loop.call_later(after, cancel))
        else:
            loop.call_soon(cancel)

    def doing(self) -> Iterable[tuple[str, str | None]]:
        """Return what each unfinished task does now, and the SQL that it waits for."""
        for running in self._tasks.values():
            if running.inner is not None and running.doing:
                yield running.doing[-1], statement_of(running.inner)

    # -- steps

    async def steps(self, steps: Steps, at: Place) -> None:
        for step in steps:
            await self.step(step, at)

    async def step(self, step: Step, at: Place) -> None:
        match step:
            case language.Create(token, value):
                await self.operation(
                    at, "create", [("put", token, value)], lambda: self.create(token, value)
                )
            case language.Update(token, value):
                await self.operation(
                    at, "update", [("put", token, value)], lambda: self.update(token, value)
                )
            case language.Remove(token):
                await self.operation(
                    at, "remove", [("delete", token, None)], lambda: self.remove(token)
                )
            case language.Increment(counter):
                await self.operation(
                    at, "increment", [("add", str(counter), 1)], lambda: self.increment(counter)
                )
            case language.Compute(counter, pause):
                await self._compute(at, counter, pause)
            case language.Get(token):
                await self.operation(at, "get", [], lambda: self.get(token))
            case language.Count():
                await self.operation(at, "count", [], self.count)
            case language.Slow(seconds):
                await self.operation(at, "slow statement", [], lambda: self.slow(seconds))
            case language.Violate(token):
                await self.operation(
                    at, "violate", [("put", token, -1)], lambda: self.create(token, -1)
                )
            case language.Sleep(seconds):
                await asyncio.sleep(seconds)
            case language.Raise():
                raise ApplicationError
            case language.Block():
                await self.in_block(at, step.kind, self.block(step), step.body, step.force_rollback)
            case language.Gather(branches):
                await asyncio.gather(*(self._task(body, at, "child") for body in branches))
            case language.Group(branches):
                async with asyncio.TaskGroup() as group:
                    for body in branches:
                        group.create_task(self._task(body, at, "child"))
            case language.Spawn(body):
                self._keep(self._task(body, at, "spawned"))
            case language.Attempt(body):
                try:
                    await self.steps(body, at)
                except Exception as error:
                    self.log.write("caught", task=at.task, error=self.log.describe(error))
            case language.Timeout(seconds, body):
                await self._timeout(seconds, body, at)
            case _:
                await self.step_of_its_own(step, at)

    async def _timeout(self, seconds: float, body: Steps, at: Place) -> None:
        limit = asyncio.timeout(seconds)
        inner: BaseException | None = None
        try:
            async with limit:
                try:
                    await self.steps(body, at)
                except BaseException as error:
                    inner = error
                    raise
        finally:
            if limit.expired():
                self.log.write(
                    "timeout", task=at.task, when=limit.when(),
                    error=None if inner is None else self.log.describe(inner),
                )  # fmt: skip
            inner = None

    async def _compute(self, at: Place, counter: int, pause: float) -> None:
        async def read_compute_write() -> None:
            value = await self.read_counter(counter)
            await asyncio.sleep(pause)
            await self.write_counter(counter, value + 1)

        await self.operation(at, "compute", [("add", str(counter), 1)], read_compute_write)

    async def operation(
        self,
        at: Place,
        name: str,
        writes: Sequence[Write],
        call: Callable[[], Awaitable[T]],
        **details: Any,
    ) -> T:
        """Execute ``call`` and write down how it ended."""
        number, doing = self.log.number(), self._tasks[at.task].doing
        self.log.write(
            "operation", operation=number, task=at.task, block=at.block, name=name,
            writes=list(writes), **details,
        )  # fmt: skip
        doing.append(name)
        try:
            result = await call()
        except BaseException as error:
            self.log.write(
                "failed", operation=number, error=self.log.describe(error), cancelling=cancelling()
            )
            raise
        finally:
            doing.pop()
        hits = result if isinstance(result, int) and name in _COUNTING else None
        self.log.write("done", operation=number, hits=hits)
        return result

    async def in_block(
        self,
        at: Place,
        kind: str,
        manager: AbstractAsyncContextManager[Any],
        body: Steps | Callable[[Place], Awaitable[None]],
        force_rollback: bool = False,
        **details: Any,
    ) -> None:
        """Enter ``manager``, execute ``body``, and write down how the block began and ended."""
        number, doing = self.log.number(), self._tasks[at.task].doing
        self.log.write(
            "block", block=number, task=at.task, outer=at.block, type=kind,
            force_rollback=force_rollback, **details,
        )  # fmt: skip
        doing.append(f"begin {kind}")
        try:
            async with manager as handle:
                self.log.write("entered", block=number)
                doing[-1] = f"in {kind}"
                here = replace(at, block=number, handle=handle)
                try:
                    await (self.steps(body, here) if isinstance(body, tuple) else body(here))
                except BaseException as error:
                    self.log.write("body ended", block=number, error=self.log.describe(error))
                    doing[-1] = f"fail {kind}"
                    raise
                self.log.write("body ended", block=number, error=None)
                doing[-1] = f"end {kind}"
        except BaseException as error:
            self.log.write(
                "left", block=number, error=self.log.describe(error), cancelling=cancelling()
            )
            raise
        else:
            self.log.write("left", block=number, error=None)
        finally:
            doing.pop()


def cancelling() -> int:
    """Return how many requests to cancel the running task nobody has answered yet."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
