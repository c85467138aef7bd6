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
from asgi_dbconn.loops.asgiref_compat import context_for_another_thread
from asgi_dbconn.loops.at_once import create_task_at_once
from asgi_dbconn.loops.deadlines import Deadline
from asgi_dbconn.loops.deadlocks import stands_still
from asgi_dbconn.loops.job import CreateTask, Job
from asgi_dbconn.loops.keyboard_interrupt import first_press_counts, presses
from asgi_dbconn.loops.loop_lifetime import watch
from asgi_dbconn.loops.managed_loop import OwnLoop, Post
from asgi_dbconn.loops.turns import Turn

__all__ = ["Verdict", "expire", "hand_over", "visit"]


class Verdict(Enum):
    """The way in which waiting ended."""

    OVER = auto()
    """The job has finished, or its time is over and it does not care."""
    STOPPED = auto()
    """The loop is not run any more, though it is not closed."""
    WITHDRAWN = auto()
    """The loop itself waits for something, so the job did not begin, and may do so elsewhere."""


def hand_over(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, own: OwnLoop | None
) -> Verdict:
    """Let ``loop``, which runs in another thread, do ``job``. For the thread that made the job.

    ``own`` is the record of a loop of ours in its thread. Such a loop does not stop without
    closing, and its closing is announced. Another's is looked at now and then while we wait.
    Interrupted, the job is cancelled and given time to unwind.
    """
    end_of_loop = watch(loop)
    end_of_loop.add(job.loop_is_gone)
    pressed = presses()
    try:
        if own is not None:
            _post(job, own.post, create_task_at_once)
            return _wait(job, loop, deadline, pressed, _always, is_told=True)
        _post(job, loop.call_soon_threadsafe, loop.create_task)
        return _wait(job, loop, deadline, pressed, loop.is_running, is_told=False)
    finally:
        end_of_loop.remove(job.loop_is_gone)


def visit(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, turn: Turn
) -> Verdict:
    """Do as :func:`hand_over` does, with a loop that another thread runs for a job of its own.

    ``turn`` has taken the job. The driver stays for it, or wakes us when it leaves.
    """

    def tell_the_driver() -> None:
        if turn.leave(job):
            loop.stop()

    job.when_finished = tell_the_driver
    pressed = presses()
    try:
        _post(job, loop.call_soon_threadsafe, loop.create_task)
        return _wait(job, loop, deadline, pressed, partial(turn.has, job), is_told=True)
    finally:
        job.when_finished = None


def expire(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the job, whose time is over, and wait for its unwinding."""
    job.has_expired = True
    _cancel(job, loop)


def _post(job: Job[Any], call_soon: Post, create_task: CreateTask) -> None:
    if not job.has_begun:
        try:
            call_soon(job.start, job.ticket, create_task, context=context_for_another_thread())
        except (RuntimeError, OSError):
            # A loop that was closed this very moment refuses; its watch has told the job, or the
            # next look at the loop will.
            return


def _wait(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    deadline: Deadline,
    pressed: int,
    runs: Callable[[], bool],
    *,
    is_told: bool,
) -> Verdict:
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
