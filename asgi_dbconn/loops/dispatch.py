"""Dispatch of a job: submit it to its loop, or run the loop here, and wait for the result.

Loops start, stop and close while another thread looks at them. So the state of the loop is
inspected after every step, and the table STEPS says which step follows from it. A job that has
begun stays with its loop. A job that has not may go to a subloop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from asgi_dbconn.errors import DeadlockError
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.asgiref_compat import context_for_another_thread
from asgi_dbconn.loops.deadlines import NEVER, Deadline, LoopPoll
from asgi_dbconn.loops.deadlocks import SyncCall, enclosing_calls, is_waiting, waiting_for
from asgi_dbconn.loops.idle_loops import LoopOwnership, ownership_of, run_idle_loop
from asgi_dbconn.loops.job import CreateTask, Job, create_eager_task
from asgi_dbconn.loops.keyboard_interrupt import interrupt_count, raise_on_first_interrupt
from asgi_dbconn.loops.loop_inspection import LoopState, inspect_loop
from asgi_dbconn.loops.loop_lifetime import watcher_of
from asgi_dbconn.loops.managed_loop import ManagedLoop, Submit, managed_loop_of, subloop_of

__all__ = ["STEPS", "dispatch"]

Step = Callable[
    [Job[Any], asyncio.AbstractEventLoop, SyncCall, Deadline], asyncio.AbstractEventLoop | None
]
"""Work on a job until it has finished, or the loop has changed. Return the loop to go on with; None
if the process gets no more threads, and the job needs a loop of its own in this one."""


def dispatch(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop | None,
    state: LoopState,
    call: SyncCall,
    deadline: Deadline,
) -> None:
    """Return when the job has finished, or ignores that its time is over.

    ``loop`` is the loop to use, and ``state`` its state a moment ago. None: a loop is made for the
    job, run in this thread, and closed.
    """
    while loop is not None:
        loop = STEPS[state](job, loop, call, deadline)
        if job.is_finished or job.has_expired:
            return
        state = inspect_loop(loop, call.blocked_loop)
    _run_on_new_loop(job, call, deadline)


def _run_on_new_loop(job: Job[Any], call: SyncCall, deadline: Deadline) -> None:
    managed = ManagedLoop()
    try:
        call.driven_loop = managed.loop
        if call.blocked_loop is None:
            run_idle_loop(managed.loop, job, deadline)
        else:
            with waiting_for(call.blocked_loop, managed.loop):
                run_idle_loop(managed.loop, job, deadline)
    finally:
        managed.close()


def _abandon_job(
    job: Job[Any], loop: asyncio.AbstractEventLoop, *_: object
) -> asyncio.AbstractEventLoop:
    job.fail_for_closed_loop()
    return loop


def _use_subloop(
    job: Job[Any], loop: asyncio.AbstractEventLoop, call: SyncCall, deadline: Deadline
) -> asyncio.AbstractEventLoop | None:
    """Submit the job to the subloop of a blocked loop, unless it has begun on that loop."""
    if not job.may_move:
        raise DeadlockError(
            "run_sync waits for a future of an event loop that waits for this one. "
            "Await one of the two instead."
        )
    if job.has_begun:
        return _submit(job, loop, call, deadline)
    subloop = _find_subloop(loop)
    return None if subloop is None else _submit(job, subloop.loop, call, deadline, subloop)


def _find_subloop(loop: asyncio.AbstractEventLoop) -> ManagedLoop | None:
    try:
        return subloop_of(loop)
    except RuntimeError:  # the interpreter is exiting, and starts no threads any more
        return None


def _submit_to_running_loop(
    job: Job[Any], loop: asyncio.AbstractEventLoop, call: SyncCall, deadline: Deadline
) -> asyncio.AbstractEventLoop | None:
    managed = managed_loop_of(loop)
    with_thread = managed if managed is not None and managed.has_thread else None
    return _submit(job, loop, call, deadline, with_thread)


def _run_or_join(
    job: Job[Any], loop: asyncio.AbstractEventLoop, call: SyncCall, deadline: Deadline
) -> asyncio.AbstractEventLoop | None:
    """Run an idle loop in this thread, or join the thread that runs it for a job of its own."""
    if call.blocked_loop is None:
        return _acquire_and_run(job, loop, call, deadline)
    with waiting_for(call.blocked_loop, loop) as may_wait:
        # If not, that loop has begun to wait for ours in this moment.
        return _acquire_and_run(job, loop, call, deadline) if may_wait else loop


STEPS: Final[Mapping[LoopState, Step]] = MappingProxyType(
    {
        LoopState.CLOSED: _abandon_job,
        LoopState.BLOCKED: _use_subloop,
        LoopState.RUNNING: _submit_to_running_loop,
        LoopState.MANAGED_IDLE_ELSEWHERE: _run_or_join,
        LoopState.IDLE: _run_or_join,
    }
)
"""The step to take in each state of a loop. Where there is no loop, one is made."""


def _submit(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    call: SyncCall,
    deadline: Deadline,
    managed: ManagedLoop | None = None,
) -> asyncio.AbstractEventLoop | None:
    """Let ``loop``, which runs in another thread, do ``job``. For the thread that made the job.

    ``managed`` is the record of a managed loop in its thread. Such a loop does not stop without
    closing, and its closing is announced. Another loop is polled while this thread waits.
    Interrupted, the job is cancelled and gets time to unwind.
    """
    if call.blocked_loop is None:
        return _submit_and_wait(job, loop, deadline, managed)
    with waiting_for(call.blocked_loop, loop) as may_wait:
        # If not, that loop has begun to wait for ours in this moment.
        return _submit_and_wait(job, loop, deadline, managed) if may_wait else loop


def _submit_and_wait(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, managed: ManagedLoop | None
) -> asyncio.AbstractEventLoop | None:
    watcher = watcher_of(loop)
    watcher.add(job.fail_for_closed_loop)
    interrupts = interrupt_count()
    try:
        if managed is not None:
            _send(job, managed.submit, create_eager_task)
            poll = LoopPoll(_is_always_running, confirms=False)
        else:
            _send(job, loop.call_soon_threadsafe, loop.create_task)
            poll = LoopPoll(loop.is_running, confirms=True)
        return _wait(job, loop, deadline, interrupts, poll)
    finally:
        watcher.remove(job.fail_for_closed_loop)


def _submit_to_owner(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, ownership: LoopOwnership
) -> asyncio.AbstractEventLoop | None:
    """Let a loop do ``job`` that another thread, its owner, runs for a job of its own.

    The owner has taken ours as a guest. It runs the loop for it, or wakes us when it leaves.
    """

    def tell_owner() -> None:
        if ownership.remove_guest(job):
            loop.stop()

    job.when_finished = tell_owner
    interrupts = interrupt_count()
    try:
        _send(job, loop.call_soon_threadsafe, loop.create_task)
        poll = LoopPoll(partial(ownership.has_guest, job), confirms=False)
        return _wait(job, loop, deadline, interrupts, poll)
    finally:
        job.when_finished = None


def _send(job: Job[Any], submit: Submit, create_task: CreateTask) -> None:
    if not job.has_begun:
        try:
            submit(job.start, job.ticket, create_task, context=context_for_another_thread())
        except (RuntimeError, OSError):
            # A loop that was closed in this moment refuses. Its watcher has told the job, or the
            # next inspection will.
            return


def _wait(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    deadline: Deadline,
    interrupts: int,
    poll: LoopPoll,
) -> asyncio.AbstractEventLoop | None:
    """Wait until the job has finished or expired, or has to go on elsewhere; return where."""
    first = deadlines.FIRST_POLL
    try:
        if job.wait(first if deadline is NEVER else deadline.within(first)):
            return loop
        with raise_on_first_interrupt(interrupts):
            return _poll_and_wait(job, loop, deadline, poll)
    except BaseException:
        _cancel(job, loop)
        raise


def _poll_and_wait(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, poll: LoopPoll
) -> asyncio.AbstractEventLoop | None:
    while not job.is_finished:
        if deadline.is_over():
            _expire(job, loop)
            break
        if poll.has_stopped():
            break
        if job.may_move and is_waiting(loop) and job.withdraw():
            subloop = _find_subloop(loop)  # the loop waits itself
            return None if subloop is None else subloop.loop
        pause = poll.next_pause()
        job.wait(deadline.within(pause if poll.confirms or not job.has_begun else None))
    return loop


def _expire(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the job, whose time is over, and wait for its unwinding."""
    job.has_expired = True
    _cancel(job, loop)


def _cancel(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    if job.refuse(asyncio.CancelledError()):
        return
    with suppress(RuntimeError):  # closed, and the job told so
        loop.call_soon_threadsafe(job.cancel, context=Context())
    grace = Deadline(deadlines.CANCEL_GRACE)
    while not (job.is_finished or grace.is_over()):
        job.wait(grace.left())


def _is_always_running() -> bool:
    return True


def _acquire_and_run(
    job: Job[Any], loop: asyncio.AbstractEventLoop, call: SyncCall, deadline: Deadline
) -> asyncio.AbstractEventLoop | None:
    ownership = ownership_of(loop)
    if ownership.try_acquire():
        _run_as_owner(job, loop, call, deadline, ownership)
        return loop
    is_below = any(parent.driven_loop is loop for parent in enclosing_calls())
    # Do not wait inside of the owner's job, or for a managed loop: join as a guest.
    seconds = 0.0 if is_below or managed_loop_of(loop) is not None else deadlines.OWNERSHIP_WAIT
    with raise_on_first_interrupt(interrupt_count()):
        while not ownership.acquire(deadline.within(seconds)):
            if deadline.is_over():
                _expire(job, loop)
                return loop
            if ownership.add_guest(job):
                return _submit_to_owner(job, loop, deadline, ownership)
            seconds = deadlines.FIRST_POLL  # the owner is about to come, or to go
    _run_as_owner(job, loop, call, deadline, ownership)
    return loop


def _run_as_owner(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    call: SyncCall,
    deadline: Deadline,
    ownership: LoopOwnership,
) -> None:
    """Run ``loop`` in this thread until the job has finished, then release it.

    A managed loop of another thread gets a thread of its own instead. The job has not begun then:
    the next step of ``dispatch()`` submits it.
    """
    try:
        state = inspect_loop(loop, call.blocked_loop)
        managed = managed_loop_of(loop)
        if state is LoopState.MANAGED_IDLE_ELSEWHERE and managed is not None:
            try:
                managed.start("environment")
            except (RuntimeError, OSError):  # no threads any more: then this one runs it
                managed.owner = threading.get_ident()
        elif state is LoopState.IDLE:
            call.driven_loop = loop
            run_idle_loop(loop, job, deadline, ownership)
    finally:
        call.driven_loop = None
        ownership.release()
