"""One check, run on a loop of its own and with a time limit, so that a hang is an outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from asgi_dbconn.types import ASGIApp

__all__ = ["Check", "ConformanceFailure", "Outcome", "Wrapper", "collect", "expect", "run"]

_LIMIT: Final = 3.0
"""Seconds that a check may take; one that does not hang takes milliseconds."""


class ConformanceFailure(AssertionError):
    """A wrong behaviour of a wrapper; the text has the actual and the expected one."""


class Wrapper(Protocol):
    """The function under test, which wraps an application."""

    def __call__(self, app: Any, lifetime: Any, /, *, handle_lifespan: bool = False) -> ASGIApp:
        """Return ``app``, with ``lifetime`` open from before its startup to after its shutdown."""
        ...


@dataclass(frozen=True)
class Check:
    """One scenario."""

    number: int
    behaviour: str
    """The behaviour of a conforming wrapper, as a sentence."""
    perform: Callable[[Wrapper], Awaitable[None]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check of a wrapper."""

    passed: bool
    reason: str = ""
    """The wrapper's behaviour instead; empty if it conforms."""


def expect(actual: object, expected: object, what: str) -> None:
    """Raise ConformanceFailure unless both are equal."""
    if actual != expected:
        raise ConformanceFailure(f"{what}: {actual!r} instead of {expected!r}")


def collect(*performs: Callable[[Wrapper], Awaitable[None]]) -> tuple[Check, ...]:
    """Return a check for each function ``check_NN_...``; its docstring is the right behaviour."""
    return tuple(
        Check(
            number=int(perform.__name__.split("_")[1]),
            behaviour=" ".join((perform.__doc__ or "").split()),
            perform=perform,
        )
        for perform in performs
    )


def run(check: Check, wrapper: Wrapper) -> Outcome:
    """Perform ``check`` on an event loop of its own, in a thread of its own."""
    outcomes: list[Outcome] = []

    def perform() -> None:
        outcomes.append(_outcome(check, wrapper))

    # A daemon: a wrapper that ignores its cancellation must not hang the run.
    thread = threading.Thread(target=perform, name=f"lifespan check {check.number}", daemon=True)
    thread.start()
    thread.join(2 * _LIMIT)
    return outcomes[0] if outcomes else Outcome(False, "hangs, and ignores its cancellation")


def _outcome(check: Check, wrapper: Wrapper) -> Outcome:
    try:
        asyncio.run(_run_with_limit(check, wrapper))
    except ConformanceFailure as failure:
        return Outcome(False, str(failure))
    except TimeoutError:
        return Outcome(False, f"hangs: nothing happened for {_LIMIT:g} s")
    except BaseException as error:  # a wrapper may raise anything, and that is its outcome
        return Outcome(False, f"raises {type(error).__name__}: {error}")
    return Outcome(True)


async def _run_with_limit(check: Check, wrapper: Wrapper) -> None:
    task = asyncio.ensure_future(check.perform(wrapper))
    done, _ = await asyncio.wait({task}, timeout=_LIMIT)
    if not done:
        task.cancel()
        raise TimeoutError
    await task
