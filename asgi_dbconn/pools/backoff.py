"""The time to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Final

__all__ = ["backoff"]

_JITTER: Final = 0.2


def backoff(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds before each next attempt: doubling, capped, never in step with others."""
    for attempt in count():
        delay = min(first * 2.0**attempt, longest)
        yield delay * random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads load
