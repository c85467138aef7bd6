"""Idle event loops: run in the calling thread until a job has finished, by one thread at a time.

A loop cannot change threads in the middle of a job: a query of SQLAlchemy's is a greenlet, and a
greenlet stays in its thread. So the second thread waits for the ownership of the loop. If the job
of the first thread waited for the second thread, neither would ever end. Then the job of the second
is a *guest*: it joins the loop that the owner runs, and the owner stays until its guests are done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import Any, Final, TypeVar

from greenlet import getcurrent
from sqlalchemy.util.concurrency import in_greenlet

from asgi_dbconn.errors import LoopGoneError
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.deadlines import NEVER, Deadline
from asgi_dbconn.loops.job import Job
from asgi_dbconn.loops.keyboard_interrupt import interrupt_count, raise_on_first_interrupt
from asgi_dbconn.loops.loop_lifetime import PerLoop

__all__ = [
    "LoopOwnership",
    "can_await_here",
    "ownership_of",
    "run_idle_loop",
    "run_outside_loops",
    "run_with_deadline",
]

T = TypeVar("T")


class LoopOwnership:
    """The right to run one idle loop. There is one per loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guest_lock = threading.Lock()
        self.is_open = False
        """True if a thread runs the loop and takes guests.

        That thread sets it without a lock: a guest that comes a moment too early tries again.
        """
        self._waits_for_guests = False
        self._guests: set[Job[Any]] = set()

    def acquire(self, seconds: float | None) -> bool:
        """Return whether this thread became the owner within ``seconds``; None waits for ever.

        Inspect the loop again afterwards: its previous owner may have changed everything.
        """
        if seconds is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))

    def try_acquire(self) -> bool:
        """Return whether this thread became the owner without waiting."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()

    def add_guest(self, guest: Job[Any]) -> bool:
        """Return whether ``guest`` was taken.

        Then the owner stays for it, or wakes it when it leaves.
        """
        with self._guest_lock:
            if not self.is_open:
                return False
            self._guests.add(guest)
            return True

    def has_guest(self, guest: Job[Any]) -> bool:
        """Return whether the owner still runs the loop for ``guest``."""
        return guest in self._guests

    def remove_guest(self, guest: Job[Any]) -> bool:
        """Remove a guest. Return whether the owner waits for it, and has to be told."""
        with self._guest_lock:
            self._guests.discard(guest)
            return self._waits_for_guests

    def close_if_no_guests(self) -> bool:
        """Return whether no guest is left. Then none can join, and the owner may leave."""
        with self._guest_lock:
            self.is_open = self._waits_for_guests = bool(self._guests)
            return not self.is_open

    def close(self) -> None:
        """Let the owner leave. The guests that are left are woken: one becomes the owner."""
        with self._guest_lock:
            self.is_open = self._waits_for_guests = False
            guests, self._guests = self._guests, set()
        for guest in guests:
            guest.wake()


ownership_of: Final = PerLoop(lambda _: LoopOwnership()).get_or_create
"""The ownership of a loop. For any thread."""


_STRAY_STOPS: Final = 1
"""A ``loop.stop()`` may have been left over from before. The next one is meant."""


class _Current(threading.local):
    greenlet: Any = None
    """The greenlet of this thread that runs an idle loop."""


_current: Final = _Current()


def can_await_here() -> bool:
    """Return whether the running loop waits for this greenlet, and so can await for it.

    A loop that is run inside of such a greenlet cannot: the greenlet would be left in the middle of
    running it.
    """
    return in_greenlet() and _current.greenlet is not getcurrent()


def run_idle_loop(
    loop: asyncio.AbstractEventLoop,
    job: Job[Any],
    deadline: Deadline,
    ownership: LoopOwnership | None = None,
) -> None:
    """Run ``loop`` until ``job`` has finished, or has ignored its cancellation for too long.

    The loop is idle, and this thread owns it. An interrupt, a Ctrl-C for one, cancels the job and
    is raised once the job has unwound. Raises LoopGoneError if the loop is stopped.
    """
    running = asyncio._get_running_loop()
    if running is None:
        run_outside_loops(loop, job, deadline, ownership)
    else:
        with _suspend_loop(running):
            run_outside_loops(loop, job, deadline, ownership)


def run_with_deadline(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], seconds: float
) -> asyncio.Task[T]:
    """Run an idle ``loop`` in this thread until ``work`` is done, at most for ``seconds``.

    The loop goes on if it is stopped before.
    """
    running = asyncio._get_running_loop()
    if running is not None:
        with _suspend_loop(running):
            return run_with_deadline(loop, work, seconds)
    task = loop.create_task(work)
    loop.call_soon(loop.stop)  # one iteration is enough for work that does not wait
    loop.run_forever()
    if not task.done():
        limit = Deadline(seconds)
        timer = loop.call_later(seconds, loop.stop, context=Context())
        task.add_done_callback(lambda _: loop.stop())
        while not (task.done() or limit.is_over()):
            loop.run_forever()
        timer.cancel()
    return task


def run_outside_loops(
    loop: asyncio.AbstractEventLoop,
    job: Job[Any],
    deadline: Deadline,
    ownership: LoopOwnership | None,
) -> None:
    """Do as :func:`run_idle_loop` does, in a thread in which no other loop runs."""
    if ownership is not None:
        ownership.is_open = True
    timers = None if deadline is NEVER else _Timers(loop, job, deadline)
    try:
        job.start_on(loop)
        # Not before: a loop with eager tasks may have finished it, and needs no stop.
        job.when_finished = partial(_stop_if_run_by, loop, threading.get_ident())
        if not job.is_finished:
            loop.run_forever()
        if not job.is_finished:
            _keep_running(loop, job, timers)
        if timers is not None:
            timers.cancel()
        if ownership is not None and not ownership.close_if_no_guests():
            _wait_for_guests(loop, ownership)
    except BaseException:
        _unwind(loop, job)
        raise
    finally:
        if timers is not None:
            timers.cancel()
        job.when_finished = None
        if ownership is not None and ownership.is_open:
            ownership.close()


def _keep_running(loop: asyncio.AbstractEventLoop, job: Job[Any], timers: _Timers | None) -> None:
    """Run a loop again that was stopped before its job has finished, or raise LoopGoneError."""
    for _ in range(_STRAY_STOPS):
        if not (job.is_finished or _has_given_up(timers)):
            loop.run_forever()
    if not (job.is_finished or _has_given_up(timers)):
        raise LoopGoneError(
            f"The event loop was stopped before {job} had finished, which it therefore "
            "cannot. Call loop.stop() when run_sync has returned, or cancel the task."
        )


class _Timers:
    """Timers that cancel the job at its deadline, and stop the loop after its grace period."""

    def __init__(self, loop: asyncio.AbstractEventLoop, job: Job[Any], deadline: Deadline) -> None:
        self._loop, self._job = loop, job
        self._timer: asyncio.TimerHandle | None = None
        self.grace_is_over = False
        left = deadline.left()
        if left is not None:
            self._timer = loop.call_later(left, self._expire, context=Context())

    def _expire(self) -> None:
        self._job.expire()
        self._timer = self._loop.call_later(
            deadlines.CANCEL_GRACE, self._give_up, context=Context()
        )

    def _give_up(self) -> None:
        self.grace_is_over = True
        self._loop.stop()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _has_given_up(timers: _Timers | None) -> bool:
    return timers is not None and timers.grace_is_over


def _stop_if_run_by(loop: asyncio.AbstractEventLoop, thread: int) -> None:
    # Another thread may have become the owner, and run the loop again: it must not be stopped.
    if threading.get_ident() == thread:
        loop.stop()


def _unwind(loop: asyncio.AbstractEventLoop, job: Job[Any]) -> None:
    job.cancel()
    if not (job.is_finished or loop.is_running() or loop.is_closed()):
        timer = loop.call_later(deadlines.CANCEL_GRACE, loop.stop, context=Context())
        loop.run_forever()
        timer.cancel()


def _wait_for_guests(loop: asyncio.AbstractEventLoop, ownership: LoopOwnership) -> None:
    limit = Deadline(deadlines.CANCEL_GRACE)
    while not (ownership.close_if_no_guests() or limit.is_over()):
        timer = loop.call_later(max(0.0, limit.left() or 0.0), loop.stop, context=Context())
        loop.run_forever()
        timer.cancel()


@contextmanager
def _suspend_loop(running: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let another loop run in this thread, whose running loop is blocked meanwhile.

    The order counts: asyncio checks a task against the running loop, from Python 3.14 on.
    """
    task = asyncio.current_task(running)
    greenlet, _current.greenlet = _current.greenlet, getcurrent()
    if task is not None:
        asyncio.tasks._leave_task(running, task)
    asyncio._set_running_loop(None)
    try:
        with raise_on_first_interrupt(interrupt_count()):
            yield
    finally:
        asyncio._set_running_loop(running)
        if task is not None:
            asyncio.tasks._enter_task(running, task)
        _current.greenlet = greenlet
