"""Waiting for a condition that announces itself by no event, always with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

_INTERVAL = 0.01


def wait_until(
    predicate: Callable[[], object], timeout: float, *, message: str | Callable[[], str] = ""
) -> None:
    """Return as soon as `predicate` is true; raise AssertionError after `timeout` seconds."""
    for _ in _until_true(predicate, timeout, message):
        time.sleep(_INTERVAL)


async def wait_until_async(
    predicate: Callable[[], object], timeout: float, *, message: str | Callable[[], str] = ""
) -> None:
    """Like `wait_until`, and the event loop goes on between two looks at the condition."""
    for _ in _until_true(predicate, timeout, message):
        await asyncio.sleep(_INTERVAL)


def _until_true(
    predicate: Callable[[], object], timeout: float, message: str | Callable[[], str]
) -> Iterator[None]:
    deadline = time.monotonic() + timeout
    while True:
        # The clock is read first: a predicate that is slow still gets one look after the deadline.
        late = time.monotonic() >= deadline
        if predicate():
            return
        if late:
            text = message() if callable(message) else message
            raise AssertionError(f"not true within {timeout} s: {text or predicate}")
        yield
