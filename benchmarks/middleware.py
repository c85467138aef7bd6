"""What a middleware adds to each request that it only passes on."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from types import FunctionType
from typing import Any, Final

from monkay.asgi import LifespanHook

from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.harness import Comparison, Contender, Effort, Run, compare_now, joined
from benchmarks.launches import launch
from benchmarks.report import Outcome, aligned, unit_of

__all__ = ["run"]

BARE: Final = "the application itself"
TEXTBOOK: Final = "async def middleware"
OURS: Final = "LifespanMiddleware"
MONKAY: Final = "monkay's LifespanHook"

# How often the application suspends, and which part of the textbook's overhead ours may be.
TARGETS: Final = {0: 0.9, 8: 0.7, 64: 0.25}

_LAUNCHES: Final = 8
_FULL: Final = Effort(rounds=60, batch=0.004)
_QUICK_LAUNCHES: Final = 3
_QUICK: Final = Effort(rounds=25, batch=0.003)


def run(*, quick: bool) -> Outcome:
    """Measure each number of suspensions, then relate the overheads to each other."""
    effort, times = (_QUICK, _QUICK_LAUNCHES) if quick else (_FULL, _LAUNCHES)
    launches = launch(partial(_compare_all, effort), times)
    overheads = [
        Overhead.of(count, name, [launch[count] for launch in launches])
        for count in TARGETS
        for name in (TEXTBOOK, OURS, MONKAY)
    ]
    comparisons = [joined([launch[count] for launch in launches]) for count in TARGETS]
    facts = {
        "launches": times,
        "overheads": [asdict(overhead) | {"verdict": overhead.verdict} for overhead in overheads],
    }
    return Outcome(comparisons, [_table(overheads)], facts)


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a middleware adds to the application's own time, in CPU seconds per request."""

    suspensions: int
    contender: str
    seconds: float
    ratios: Sequence[float]
    """To what the textbook's middleware adds, in each launch."""
    target: float | None
    """What the ratio should be at most."""

    @classmethod
    def of(cls, suspensions: int, contender: str, launches: Sequence[Comparison]) -> Overhead:
        return cls(
            suspensions,
            contender,
            median(_added(launch, contender) for launch in launches),
            [_added(launch, contender) / _added(launch, TEXTBOOK) for launch in launches],
            TARGETS[suspensions] if contender == OURS else None,
        )

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        met = sum(ratio <= self.target for ratio in self.ratios)
        if met == len(self.ratios):
            return "met"
        return f"met in {met} of {len(self.ratios)} launches" if met else "missed"


class AsyncDefMiddleware:
    """As every tutorial writes it."""

    def __init__(self, app: ASGIApp, lifetime: AbstractAsyncContextManager[Any]) -> None:
        self.app = app
        self.lifetime = lifetime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        async with self.lifetime:
            await self.app(scope, receive, send)


class _Suspension:
    """Waits for the driver once, as a socket waits for the loop."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def _application(suspensions: int) -> ASGIApp:
    suspension = _Suspension()

    async def application(_scope: Scope, _receive: Receive, _send: Send) -> None:
        for _ in range(suspensions):
            await suspension

    return application


def _compare_all(effort: Effort) -> dict[int, Comparison]:
    async def compare_each() -> dict[int, Comparison]:
        return {count: await _compare_alive(count, effort) for count in TARGETS}

    return asyncio.run(compare_each())


async def _compare_alive(suspensions: int, effort: Effort) -> Comparison:
    app = _application(suspensions)
    apps: dict[str, Any] = {
        BARE: app,
        TEXTBOOK: AsyncDefMiddleware(app, nullcontext()),
        OURS: LifespanMiddleware(app, nullcontext(), handle_lifespan=True),
        MONKAY: LifespanHook(app, setup=_set_up),
    }
    contenders = [Contender(name, _driver(app)) for name, app in apps.items()]
    title = f"One request to an application that suspends {suspensions} times"
    # Requests come while the application lives; the loop is there for this, and stands still.
    async with LifespanDriver(apps[OURS]):
        return compare_now(title, contenders, effort, baseline=BARE)


def _driver(app: ASGIApp) -> Run:
    # The interpreter specialises a line of code for what it calls there. A server calls one
    # application, so each contender gets code of its own to be specialised.
    drive = FunctionType(_drive.__code__.replace(), _drive.__globals__)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    return partial(drive, app, scope, _receive, _send)


def _drive(app: Any, scope: Scope, receive: Receive, send: Send, operations: int) -> None:
    for _ in range(operations):
        step = app(scope, receive, send).send
        try:
            while True:
                step(None)
        except StopIteration:
            continue


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _send(message: Message) -> None:
    """Nobody listens."""


async def _set_up() -> AsyncExitStack:
    return AsyncExitStack()


def _added(comparison: Comparison, name: str) -> float:
    """Within each round first: the machine's speed of that moment is in both."""
    bare, whole = comparison.measurements[BARE].cpu, comparison.measurements[name].cpu
    return median(after - before for before, after in zip(bare, whole, strict=True))


def _table(overheads: Sequence[Overhead]) -> str:
    rows = [["", "added", "to textbook's", "lowest", "highest", "target", ""]]
    for overhead in overheads:
        seconds, unit = unit_of(overhead.seconds)
        ratios = (median(overhead.ratios), min(overhead.ratios), max(overhead.ratios))
        rows.append(
            [
                f"{overhead.suspensions} suspensions: {overhead.contender}",
                f"{overhead.seconds / seconds:,.0f} {unit}",
                *(f"{ratio:.2f}" for ratio in ratios),
                "" if overhead.target is None else f"<= {overhead.target:.2f}",
                overhead.verdict,
            ]
        )
    launches = len(overheads[0].ratios)
    return f"What each adds to a request, in CPU time  [{launches} launches]\n{aligned(rows)}"
