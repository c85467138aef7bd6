"""Bringing a job to the loop that shall do it, whatever that loop is doing and does meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asgi_dbconn.errors import DeadlockError
from asgi_dbconn.loops import limits
from asgi_dbconn.loops.deadlines import Deadline
from asgi_dbconn.loops.deadlocks import Call, calls_above, waiting_for
from asgi_dbconn.loops.dispatch import Verdict, expire, hand_over, visit
from asgi_dbconn.loops.idle_loops import drive
from asgi_dbconn.loops.job import Job
from asgi_dbconn.loops.keyboard_interrupt import first_press_counts, presses
from asgi_dbconn.loops.looking import look_at
from asgi_dbconn.loops.loop_state import LoopState
from asgi_dbconn.loops.managed_loop import OwnLoop, own_loop
from asgi_dbconn.loops.subloops import subloop_of
from asgi_dbconn.loops.turns import Turn, turn_of

__all__ = ["route", "run_privately"]

Loop = asyncio.AbstractEventLoop


def route(job: Job[Any], loop: Loop, state: LoopState, call: Call, deadline: Deadline) -> None:
    """Return when the job has finished, or ignores that its time is over.

    ``state`` is what ``loop`` is doing now. Loops start, stop and close while we look at them, so
    after every step they are looked at again. A job that has begun stays with its loop; one that
    has not may go to a subloop.
    """
    here = call.blocks
    while True:
        if state is LoopState.CLOSED:
            job.loop_is_gone()
        elif state is LoopState.BLOCKED and not job.may_move:
            raise DeadlockError(
                "run_sync waits for a future of an event loop that waits for this one. "
                "Await one of the two instead."
            )
        elif state is LoopState.BLOCKED and not job.has_begun:
            try:
                loop = subloop_of(loop).loop
            except RuntimeError:  # the interpreter is exiting, and starts no threads any more
                return run_privately(job, call, deadline)
        elif _work_on(job, loop, state, call, deadline) is Verdict.WITHDRAWN:
            try:
                loop = subloop_of(loop).loop
            except RuntimeError:
                return run_privately(job, call, deadline)
        if job.is_finished or job.has_expired:
            return None
        state = look_at(loop, here)


def run_privately(job: Job[Any], call: Call, deadline: Deadline) -> None:
    """Do the job on a loop that is made for it, run here, and closed."""
    own = OwnLoop()
    try:
        call.drives = own.loop
        if call.blocks is None:
            drive(own.loop, job, deadline)
        else:
            with waiting_for(call.blocks, own.loop):
                drive(own.loop, job, deadline)
    finally:
        own.end()


def _work_on(
    job: Job[Any], loop: Loop, state: LoopState, call: Call, deadline: Deadline
) -> Verdict:
    if call.blocks is None:
        return _work_there(job, loop, state, call, deadline)
    with waiting_for(call.blocks, loop) as may_wait:
        if not may_wait:
            return Verdict.STOPPED  # that loop has just begun to wait for ours
        return _work_there(job, loop, state, call, deadline)


def _work_there(
    job: Job[Any], loop: Loop, state: LoopState, call: Call, deadline: Deadline
) -> Verdict:
    if state is LoopState.IDLE or state is LoopState.OURS_ELSEWHERE:
        return _in_turn(job, loop, call, deadline)
    own = own_loop(loop)
    return hand_over(job, loop, deadline, own if own is not None and own.has_thread else None)


def _in_turn(job: Job[Any], loop: Loop, call: Call, deadline: Deadline) -> Verdict:
    turn = turn_of(loop)
    if not turn.take_now():
        own = own_loop(loop)
        is_below = any(above.drives is loop for above in calls_above())
        # Whoever is below the driver, or shares its loop by our own doing, need not try to wait.
        patience = 0.0 if is_below or own is not None else limits.PATIENCE
        with first_press_counts(presses()):
            verdict = _wait_for_turn(job, loop, turn, deadline, patience)
        if verdict is not None:
            return verdict
    try:
        state = look_at(loop, call.blocks)
        own = own_loop(loop)
        if state is LoopState.OURS_ELSEWHERE and own is not None:
            try:
                own.start("environment")
            except (RuntimeError, OSError):  # no threads any more: then this one runs it
                own.owner = threading.get_ident()
        elif state is LoopState.IDLE:
            call.drives = loop
            drive(loop, job, deadline, turn)
    finally:
        call.drives = None
        turn.release()
    return Verdict.OVER if job.is_finished else Verdict.STOPPED


def _wait_for_turn(
    job: Job[Any], loop: Loop, turn: Turn, deadline: Deadline, patience: float
) -> Verdict | None:
    """Wait for our turn. Return None then, or how the visit to the present driver ended."""
    while not turn.take(deadline.within(patience)):
        if deadline.is_over():
            expire(job, loop)
            return Verdict.OVER
        if turn.join(job):
            return visit(job, loop, deadline, turn)
        patience = limits.FIRST_LOOK  # the driver is about to come, or to go
    return None
