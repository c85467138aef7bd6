"""The limits of synchronous code: how long it waits for what, in seconds, and how deep it nests."""

from __future__ import annotations

__all__ = ["DEPTH", "FIRST_LOOK", "GRACE", "LONGEST_PAUSE", "PATIENCE"]

GRACE = 5.0
"""Time for cancelled work to unwind, and for each step of ending a loop of ours."""
PATIENCE = 0.25
"""Time for an idle loop that another thread drives.

Then its driver is asked to do our work, too: it may be waiting for us, through an executor that
told us nothing about it.
"""
FIRST_LOOK = 0.05
"""Time before a waiting thread looks whether what it waits for still can happen.

Each further look comes after twice the time ...
"""
LONGEST_PAUSE = 1.0
"""... but not later than this."""
DEPTH = 16
"""Calls of ``run_sync`` inside each other. Each may cost a thread, so recursion must end."""
