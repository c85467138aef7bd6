"""What ``run_sync`` does in which situation: a table, decided without touching a loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from asgi_dbconn.loops import limits

__all__ = ["LoopState", "Situation", "Way", "decide"]


class LoopState(Enum):
    """What the calling thread can expect of a loop."""

    NONE = auto()
    """There is no loop: none given, none running, no environment."""
    CLOSED = auto()
    """It will never run again; or it belongs to the process that we were forked from."""
    BLOCKED = auto()
    """It stands still until we return: it runs in this thread, or a call above waits for us."""
    RUNNING = auto()
    """It runs in another thread, or will at once."""
    OURS_ELSEWHERE = auto()
    """It is idle, we made it, and another thread is the one that runs it."""
    IDLE = auto()
    """Nobody runs it, but perhaps another call of run_sync for a job of its own."""


class Way(Enum):
    """What is done; ``docs/explanation/loops-and-threads.md`` tells each and its reason."""

    AWAIT_HERE = auto()
    TAKE_RESULT = auto()
    PRIVATE_LOOP = auto()
    SUBLOOP = auto()
    HAND_OVER = auto()
    PROMOTE = auto()
    DRIVE = auto()
    REFUSE_DEADLOCK = auto()
    REFUSE_CLOSED = auto()
    REFUSE_DEPTH = auto()


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the decision rests on."""

    loop: LoopState = LoopState.NONE
    can_await_here: bool = False
    """We are inside a greenlet of SQLAlchemy's, and no loop was given."""
    is_future: bool = False
    """The awaitable is a future or a task, so ``loop`` is its loop."""
    is_done: bool = False
    depth: int = 0
    """How many calls of run_sync we are inside of."""


def decide(situation: Situation) -> Way:
    """The first that applies."""
    match situation:
        case Situation(can_await_here=True):
            return Way.AWAIT_HERE
        case Situation(is_future=True, is_done=True):
            return Way.TAKE_RESULT
        case Situation(is_future=True, loop=LoopState.BLOCKED):
            return Way.REFUSE_DEADLOCK
        case Situation(loop=LoopState.CLOSED):
            return Way.REFUSE_CLOSED
        case Situation(depth=depth) if depth >= limits.DEPTH:
            return Way.REFUSE_DEPTH
        case _:
            return _WAYS[situation.loop]


_WAYS = {
    LoopState.NONE: Way.PRIVATE_LOOP,
    LoopState.BLOCKED: Way.SUBLOOP,
    LoopState.RUNNING: Way.HAND_OVER,
    LoopState.OURS_ELSEWHERE: Way.PROMOTE,
    LoopState.IDLE: Way.DRIVE,
}
