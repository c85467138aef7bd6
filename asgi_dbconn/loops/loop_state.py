"""The table of what ``run_sync`` does in which situation, decided without touching a loop.

Inside of ``models.sync`` there is nothing to decide: the running loop awaits the work.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass
from enum import Enum, auto

from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.deadlocks import is_blocked
from asgi_dbconn.loops.fork import fork_count
from asgi_dbconn.loops.idle_loops import ownership_of
from asgi_dbconn.loops.managed_loop import managed_loop_of

__all__ = ["LoopState", "Situation", "Way", "decide", "inspect_from_outside", "inspect_loop"]


class LoopState(Enum):
    """The behaviour that the calling thread can expect of a loop."""

    # By identity. Up to Python 3.11, Enum's own is a function that hashes the name.
    __hash__ = object.__hash__

    NONE = auto()
    """There is no loop: none given, none running, no environment."""
    CLOSED = auto()
    """It will never run again; or it belongs to the process that we were forked from."""
    BLOCKED = auto()
    """It stands still until we return: it runs in this thread, or a call above waits for us."""
    RUNNING = auto()
    """It runs in another thread, or will immediately."""
    OURS_ELSEWHERE = auto()
    """It is idle, we made it, and another thread is the one that runs it."""
    IDLE = auto()
    """No thread runs it, except perhaps another call of run_sync for a job of its own."""


class Way(Enum):
    """The way to do the work; ``docs/explanation/loops-and-threads.md`` tells each and why."""

    __hash__ = object.__hash__

    TAKE_RESULT = auto()
    PRIVATE_LOOP = auto()
    SUBLOOP = auto()
    HAND_OVER = auto()
    PROMOTE = auto()
    DRIVE = auto()
    REFUSE_DEADLOCK = auto()
    REFUSE_CLOSED = auto()
    REFUSE_DEPTH = auto()


@dataclass(slots=True)
class Situation:
    """The facts that the decision rests on."""

    loop: LoopState = LoopState.NONE
    is_future: bool = False
    """The awaitable is a future or a task, so ``loop`` is its loop."""
    is_done: bool = False
    depth: int = 0
    """The number of calls of run_sync that we are inside of."""


def decide(situation: Situation) -> Way:
    """Return the first way that applies."""
    if situation.is_future and situation.is_done:
        return Way.TAKE_RESULT
    if situation.is_future and situation.loop is LoopState.BLOCKED:
        return Way.REFUSE_DEADLOCK
    if situation.loop is LoopState.CLOSED:
        return Way.REFUSE_CLOSED
    if situation.depth >= deadlines.MAX_DEPTH:
        return Way.REFUSE_DEPTH
    return _WAYS[situation.loop]


_WAYS = {
    LoopState.NONE: Way.PRIVATE_LOOP,
    LoopState.BLOCKED: Way.SUBLOOP,
    LoopState.RUNNING: Way.HAND_OVER,
    LoopState.OURS_ELSEWHERE: Way.PROMOTE,
    LoopState.IDLE: Way.DRIVE,
}


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
        # Run by another call of run_sync, it is idle again as soon as that one has returned.
        return LoopState.IDLE if ownership_of(loop).is_open else LoopState.RUNNING
    if managed is not None and managed.owner != threading.get_ident():
        return LoopState.OURS_ELSEWHERE
    return LoopState.IDLE


def _was_left_by_fork(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this process was forked while ``loop`` ran.

    The loop still says that it runs, but no thread runs it.

    asyncio's loops know their thread. uvloop's do not tell, and are believed.
    """
    if fork_count() == 0:
        return False
    thread = getattr(loop, "_thread_id", None)
    return thread is not None and (
        thread == threading.get_ident() or thread not in sys._current_frames()
    )
