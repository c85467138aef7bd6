"""The state of a loop, as seen from the calling thread; true for that moment only."""

from __future__ import annotations

import asyncio
import sys
import threading

from asgi_dbconn.loops.deadlocks import is_blocked
from asgi_dbconn.loops.fork import generation
from asgi_dbconn.loops.loop_state import LoopState
from asgi_dbconn.loops.managed_loop import own_loop
from asgi_dbconn.loops.turns import turn_of

__all__ = ["look_at", "look_from_outside"]

Loop = asyncio.AbstractEventLoop


def look_at(loop: Loop | None, here: Loop | None) -> LoopState:
    """Return the state of ``loop`` for a thread in which the loop ``here`` runs, if any."""
    if loop is None:
        return LoopState.NONE
    if loop is here or is_blocked(loop):
        return LoopState.BLOCKED
    return look_from_outside(loop)


def look_from_outside(loop: Loop) -> LoopState:
    """Return the state of ``loop`` for a thread without a running loop and in no ``run_sync``."""
    if loop.is_closed():
        return LoopState.CLOSED
    own = own_loop(loop)
    if own is not None and own.has_thread:
        return LoopState.RUNNING
    if loop.is_running():
        if _was_left_behind(loop):
            return LoopState.CLOSED
        # Run by another call of run_sync, it is idle again as soon as that one has returned.
        return LoopState.IDLE if turn_of(loop).is_open else LoopState.RUNNING
    if own is not None and own.owner != threading.get_ident():
        return LoopState.OURS_ELSEWHERE
    return LoopState.IDLE


def _was_left_behind(loop: Loop) -> bool:
    """Return whether this process was forked while ``loop`` ran.

    The loop still says that it runs, but no thread runs it.

    asyncio's loops know their thread. uvloop's do not tell, and are believed.
    """
    if generation() == 0:
        return False
    thread = getattr(loop, "_thread_id", None)
    return thread is not None and (
        thread == threading.get_ident() or thread not in sys._current_frames()
    )
