"""The state of an event loop, as the calling thread sees it. It is true for that moment only."""

from __future__ import annotations

import asyncio
import sys
import threading
from enum import Enum, auto

from asgi_dbconn.loops.deadlocks import is_blocked
from asgi_dbconn.loops.fork import fork_count
from asgi_dbconn.loops.idle_loops import ownership_of
from asgi_dbconn.loops.managed_loop import managed_loop_of

__all__ = ["LoopState", "inspect_from_outside", "inspect_loop"]


class LoopState(Enum):
    """The behaviour that the calling thread can expect of a loop."""

    # By identity. Up to Python 3.11, Enum's own is a function that hashes the name.
    __hash__ = object.__hash__

    NONE = auto()
    """There is no loop: none given, none running, no environment."""
    CLOSED = auto()
    """It will never run again, or it belongs to the process that this one was forked from."""
    BLOCKED = auto()
    """It cannot run until this call returns: it runs in this thread, or an enclosing call waits."""
    RUNNING = auto()
    """It runs in another thread, or will immediately."""
    MANAGED_IDLE_ELSEWHERE = auto()
    """It is idle, one of this package's managed loops, and owned by another thread."""
    IDLE = auto()
    """No thread runs it, except perhaps another call of run_sync for its own job."""


def inspect_loop(
    loop: asyncio.AbstractEventLoop | None, here: asyncio.AbstractEventLoop | None
) -> LoopState:
    """Return the state of ``loop`` for a thread in which the loop ``here`` runs, if any."""
    if loop is None:
        return LoopState.NONE
    if loop is here or is_blocked(loop):
        return LoopState.BLOCKED
    return inspect_from_outside(loop)


def inspect_from_outside(loop: asyncio.AbstractEventLoop) -> LoopState:
    """Return the state of ``loop`` for a thread without a running loop and in no ``run_sync``."""
    if loop.is_closed():
        return LoopState.CLOSED
    managed = managed_loop_of(loop)
    if managed is not None and managed.has_thread:
        return LoopState.RUNNING
    if loop.is_running():
        if _was_left_by_fork(loop):
            return LoopState.CLOSED
        # A loop that another run_sync runs is idle again as soon as that call returns.
        return LoopState.IDLE if ownership_of(loop).is_open else LoopState.RUNNING
    if managed is not None and managed.owner != threading.get_ident():
        return LoopState.MANAGED_IDLE_ELSEWHERE
    return LoopState.IDLE


def _was_left_by_fork(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this process was forked while ``loop`` ran.

    The loop still says that it runs, but no thread runs it.

    asyncio's loops know their thread. uvloop's do not, and their word is taken.
    """
    if fork_count() == 0:
        return False
    thread = getattr(loop, "_thread_id", None)
    return thread is not None and (
        thread == threading.get_ident() or thread not in sys._current_frames()
    )
