"""What a middleware adds to each request that it only passes on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from statistics import median
from types import FunctionType
from typing import Any, Final

from monkay.asgi import LifespanHook

from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.figures import Interval, interval_of
from benchmarks.harness import Comparison, Contender, Effort, Run, compare_now
from benchmarks.report import Outcome, aligned, unit_of

__all__ = ["run"]

BARE: Final = "the application itself"
TEXTBOOK: Final = "async def middleware"
OURS: Final = "LifespanMiddleware"
MONKAY: Final = "monkay's LifespanHook"

# How often the application suspends, and which part of the textbook's overhead ours may be.
TARGETS: Final = {0: 0.8, 8: 0.6, 64: 0.25}

_FULL: Final = Effort(rounds=500, batch=0.004)
_QUICK: Final = Effort(rounds=100, batch=0.003)


def run(*, quick: bool) -> Outcome:
    """Measure each number of suspensions, then relate the overheads to each other."""
    effort = _QUICK if quick else _FULL
    comparisons = {count: _compare(count, effort) for count in TARGETS}
    rows = [["overhead over the application", "", "textbook's =", "95 %", "at most", ""]]
    facts = []
    for count, comparison in comparisons.items():
        for name in (TEXTBOOK, OURS, MONKAY):
            overhead = _overhead(comparison, name)
            ratio = _ratio_to_textbook(comparison, name)
            target = TARGETS[count] if name == OURS else None
            verdict = None if target is None else ratio.verdict(target)
            rows.append(_row(count, name, overhead, ratio, target, verdict))
            facts.append(
                {
                    "suspensions": count,
                    "contender": name,
                    "overhead": overhead,
                    "ratio_to_textbook": asdict(ratio),
                    "target": target,
                    "verdict": verdict,
                }
            )
    title = "Overhead in CPU time, per request"
    return Outcome(list(comparisons.values()), [f"{title}\n{aligned(rows)}"], {"overheads": facts})


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

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(suspensions):
            await suspension

    return application


def _compare(suspensions: int, effort: Effort) -> Comparison:
    app = _application(suspensions)
    apps: dict[str, Any] = {
        BARE: app,
        TEXTBOOK: AsyncDefMiddleware(app, nullcontext()),
        OURS: LifespanMiddleware(app, nullcontext()),
        MONKAY: LifespanHook(app, setup=_set_up),
    }
    contenders = [Contender(name, _driver(each)) for name, each in apps.items()]
    title = f"One request to an application that suspends {suspensions} times"
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


def _overhead(comparison: Comparison, name: str) -> float:
    return median(over for _, over in _rounds(comparison, name, BARE))


def _ratio_to_textbook(comparison: Comparison, name: str) -> Interval:
    return interval_of(list(_rounds(comparison, name, TEXTBOOK)), _ratio)


def _rounds(comparison: Comparison, name: str, other: str) -> Sequence[tuple[float, float]]:
    """For each round, what ``other`` and what ``name`` added to the application."""
    bare = comparison.measurements[BARE].cpu
    others = comparison.measurements[other].cpu
    mine = comparison.measurements[name].cpu
    return [(b - a, c - a) for a, b, c in zip(bare, others, mine, strict=True)]


def _ratio(rounds: Sequence[tuple[float, float]]) -> float:
    return median(over for _, over in rounds) / median(base for base, _ in rounds)


def _row(
    count: int,
    name: str,
    overhead: float,
    ratio: Interval,
    target: float | None,
    verdict: str | None,
) -> list[str]:
    seconds, unit = unit_of(overhead)
    return [
        f"{count} suspensions: {name}",
        f"{overhead / seconds:.1f} {unit}",
        f"{ratio.value:.2f}",
        f"{ratio.low:.2f}-{ratio.high:.2f}" if name != TEXTBOOK else "",
        "" if target is None else f"{target:.2f}",
        verdict or "",
    ]
