"""Deadlines, the polling of other loops, and the time limits of synchronous code, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = [
    "CANCEL_GRACE",
    "FIRST_POLL",
    "MAX_DEPTH",
    "MAX_POLL",
    "NEVER",
    "OWNERSHIP_WAIT",
    "Deadline",
    "LoopPoll",
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
"""The deadline of a wait without an end."""


class LoopPoll:
    """The polling of a loop that another thread runs, by the thread that waits for it."""

    __slots__ = ("_is_running", "_pause", "_was_idle", "confirms")

    def __init__(self, is_running: Callable[[], bool], *, confirms: bool) -> None:
        self._is_running = is_running
        self.confirms = confirms
        """True if an idle loop is looked at twice before it counts as stopped.

        ``asyncio.run`` stops its loop between main and clean-up, for a moment only. A loop whose
        end is announced needs no second look.
        """
        self._was_idle = False
        self._pause = FIRST_POLL

    def has_stopped(self) -> bool:
        """Look at the loop; return whether it runs no more."""
        was_idle, self._was_idle = self._was_idle, not self._is_running()
        return self._was_idle and (was_idle or not self.confirms)

    def next_pause(self) -> float:
        """Return the seconds until the next look: twice the last ones, at most MAX_POLL."""
        self._pause = min(2 * self._pause, MAX_POLL)
        return self._pause


CANCEL_GRACE = 5.0
"""Time for cancelled work to unwind, and for each step of closing a managed loop."""
OWNERSHIP_WAIT = 0.25
"""Time to wait for the ownership of an idle loop that another thread runs.

Then that thread is asked to do our work, too: it may be waiting for us, through an executor that
told us nothing about it.
"""
FIRST_POLL = 0.05
"""First interval at which a waiting thread checks that the loop still runs. It doubles up to
MAX_POLL."""
MAX_POLL = 1.0
"""Longest interval between two such checks."""
MAX_DEPTH = 16
"""Calls of ``run_sync`` inside each other. Each may cost a thread, so recursion must end."""
