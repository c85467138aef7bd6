"""A job for an event loop that runs elsewhere: posted there, and waited for here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from enum import Enum, auto
from functools import partial
from typing import Any

from asgi_dbconn.loops import limits
from asgi_dbconn.loops.calls import stands_still
from asgi_dbconn.loops.deadline import Deadline
from asgi_dbconn.loops.interrupts import first_press_counts, presses
from asgi_dbconn.loops.job import Job
from asgi_dbconn.loops.turns import Turn
from asgi_dbconn.loops.watching import watch

__all__ = ["Verdict", "expire", "hand_over", "visit"]


class Verdict(Enum):
    """How waiting ended."""

    OVER = auto()
    """The job has finished, or its time is over and it does not care."""
    STOPPED = auto()
    """Nobody runs the loop any more, though it is not closed."""
    WITHDRAWN = auto()
    """The loop itself waits for something, so the job did not begin, and may do so elsewhere."""


def hand_over(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, *, ours: bool
) -> Verdict:
    """Let ``loop``, which runs in another thread, do ``job``. For the thread that made the job.

    A loop of ours does not stop without closing, and its closing is announced. Another's is looked
    at now and then while we wait. Interrupted, the job is cancelled and given time to unwind.
    """
    end_of_loop = watch(loop)
    end_of_loop.add(job.loop_is_gone)
    try:
        _post(job, loop, eagerly=ours)
        runs = _always if ours else loop.is_running
        return _wait(job, loop, deadline, runs, is_told=ours)
    finally:
        end_of_loop.remove(job.loop_is_gone)


def visit(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, turn: Turn
) -> Verdict:
    """Like :meth:`hand_over`, to a loop that another thread runs for a job of its own.

    ``turn`` has taken the job. The driver stays for it, or wakes us when it leaves.
    """

    def tell_the_driver() -> None:
        if turn.leave(job):
            loop.stop()

    job.when_finished = tell_the_driver
    try:
        _post(job, loop, eagerly=False)
        return _wait(job, loop, deadline, partial(turn.has, job), is_told=True)
    finally:
        job.when_finished = None


def expire(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    """The job's time is over: cancel it, and wait for its unwinding."""
    job.has_expired = True
    _cancel(job, loop)


def _post(job: Job[Any], loop: asyncio.AbstractEventLoop, *, eagerly: bool) -> None:
    if not job.has_begun:
        # A loop that was closed this very moment refuses; its watch has told the job, or the next
        # look at the loop will.
        with suppress(RuntimeError):
            start = partial(job.start, job.ticket, eagerly=eagerly)
            loop.call_soon_threadsafe(start, context=Context())


def _wait(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    deadline: Deadline,
    runs: Callable[[], bool],
    *,
    is_told: bool,
) -> Verdict:
    pressed = presses()
    try:
        if job.wait(deadline.within(limits.FIRST_LOOK)):
            return Verdict.OVER
        with first_press_counts(pressed):
            return _wait_long(job, loop, deadline, runs, is_told=is_told)
    except BaseException:
        _cancel(job, loop)
        raise


def _wait_long(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    deadline: Deadline,
    runs: Callable[[], bool],
    *,
    is_told: bool,
) -> Verdict:
    pause = limits.FIRST_LOOK
    seen_idle = False
    while not job.is_finished:
        if deadline.is_over():
            expire(job, loop)
            break
        if not runs():
            # asyncio.run stops its loop between main and clean-up, for a moment only.
            if seen_idle or is_told:
                return Verdict.STOPPED
            seen_idle = True
        elif job.may_move and stands_still(loop) and job.withdraw():
            return Verdict.WITHDRAWN
        else:
            seen_idle = False
        pause = min(2 * pause, limits.LONGEST_PAUSE)
        job.wait(deadline.within(None if is_told and job.has_begun else pause))
    return Verdict.OVER


def _cancel(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    if job.refuse(asyncio.CancelledError()):
        return
    with suppress(RuntimeError):  # closed, and the job told so
        loop.call_soon_threadsafe(job.cancel, context=Context())
    grace = Deadline(limits.GRACE)
    while not (job.is_finished or grace.is_over()):
        job.wait(grace.left())


def _always() -> bool:
    return True
