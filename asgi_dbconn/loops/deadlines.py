"""A moment by which something must have happened, on the clock of all threads."""

from __future__ import annotations

import time
from typing import Final

__all__ = [
    "CANCEL_GRACE",
    "FIRST_POLL",
    "MAX_DEPTH",
    "MAX_POLL",
    "NEVER",
    "OWNERSHIP_WAIT",
    "Deadline",
    "deadline_after",
]


class Deadline:
    """A moment ``seconds`` from now; None never comes, 0 and less has been."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds until then, negative ones once it is over; None if it never comes."""
        return None if self._at is None else self._at - time.monotonic()

    def is_over(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at

    def within(self, seconds: float | None) -> float | None:
        """Return ``seconds``, or what is left if that is less, for a caller that waits."""
        if self._at is None:
            return seconds
        left = self._at - time.monotonic()
        return left if seconds is None else min(seconds, left)


NEVER: Final = Deadline(None)
"""The deadline of those who wait for ever."""


def deadline_after(seconds: float | None) -> Deadline:
    """Return the deadline ``seconds`` from now, or NEVER."""
    return NEVER if seconds is None else Deadline(seconds)


CANCEL_GRACE = 5.0
"""Time for cancelled work to unwind, and for each step of ending a loop of ours."""
OWNERSHIP_WAIT = 0.25
"""Time for an idle loop that another thread drives.

Then its driver is asked to do our work, too: it may be waiting for us, through an executor that
told us nothing about it.
"""
FIRST_POLL = 0.05
"""Time before a waiting thread looks whether what it waits for still can happen.

Each further look comes after twice the time ...
"""
MAX_POLL = 1.0
"""... but not later than this."""
MAX_DEPTH = 16
"""Calls of ``run_sync`` inside each other. Each may cost a thread, so recursion must end."""
