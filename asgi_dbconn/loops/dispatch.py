"""A job for an event loop that runs elsewhere: posted there, and waited for here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from enum import Enum, auto
from functools import partial
from typing import Any, TypeVar

from asgi_dbconn.errors import DeadlockError
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.asgiref_compat import context_for_another_thread
from asgi_dbconn.loops.deadlines import Deadline
from asgi_dbconn.loops.deadlocks import SyncCall, enclosing_calls, is_waiting, waiting_for
from asgi_dbconn.loops.idle_loops import LoopOwnership, ownership_of, run_idle_loop
from asgi_dbconn.loops.job import CreateTask, Job
from asgi_dbconn.loops.keyboard_interrupt import interrupt_count, raise_on_first_interrupt
from asgi_dbconn.loops.loop_lifetime import watcher_of
from asgi_dbconn.loops.loop_state import LoopState, inspect_loop
from asgi_dbconn.loops.managed_loop import ManagedLoop, Submit, managed_loop_of, subloop_of

__all__ = [
    "WaitResult",
    "create_eager_task",
    "dispatch",
    "expire",
    "run_on_new_loop",
    "submit",
    "submit_to_owner",
]

T = TypeVar("T")


def create_eager_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Create a task on a loop of ours, as ``asyncio.create_task`` does.

    For the loop's own thread and outside of any task. Returns after the first step, and perhaps
    when all is done.
    """
    loop = asyncio.get_running_loop()
    if _HAS_EAGER_TASKS:
        eager: Any = asyncio.Task
        task: asyncio.Task[T] = eager(work, loop=loop, eager_start=True)
        return task
    return _create_and_step(work, loop)


_HAS_EAGER_TASKS = hasattr(asyncio, "eager_task_factory")


def _create_and_step(
    work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
) -> asyncio.Task[T]:
    """Create a task and take its first step.

    Python 3.11 has no eager tasks. But a new task asks its loop to take its first step soon, and
    does nothing else with it; so we listen, and take that step.
    """
    first: list[tuple[Callable[[], object], Context]] = []

    def call_soon(step: Callable[[], object], *, context: Context) -> None:
        first.append((step, context))

    loop.call_soon = call_soon  # type: ignore[method-assign,assignment]
    try:
        task = asyncio.Task(work, loop=loop)
    finally:
        del loop.call_soon
    ((step, context),) = first
    context.run(step)
    return task


class WaitResult(Enum):
    """The way in which waiting ended."""

    OVER = auto()
    """The job has finished, or its time is over and it does not care."""
    STOPPED = auto()
    """The loop is not run any more, though it is not closed."""
    WITHDRAWN = auto()
    """The loop itself waits for something, so the job did not begin, and may do so elsewhere."""


def submit(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, managed: ManagedLoop | None
) -> WaitResult:
    """Let ``loop``, which runs in another thread, do ``job``. For the thread that made the job.

    ``own`` is the record of a loop of ours in its thread. Such a loop does not stop without
    closing, and its closing is announced. Another's is looked at now and then while we wait.
    Interrupted, the job is cancelled and given time to unwind.
    """
    end_of_loop = watcher_of(loop)
    end_of_loop.add(job.abandon)
    pressed = interrupt_count()
    try:
        if managed is not None:
            _post(job, managed.submit, create_eager_task)
            return _wait(job, loop, deadline, pressed, _always, is_told=True)
        _post(job, loop.call_soon_threadsafe, loop.create_task)
        return _wait(job, loop, deadline, pressed, loop.is_running, is_told=False)
    finally:
        end_of_loop.remove(job.abandon)


def submit_to_owner(
    job: Job[Any], loop: asyncio.AbstractEventLoop, deadline: Deadline, ownership: LoopOwnership
) -> WaitResult:
    """Do as :func:`hand_over` does, with a loop that another thread runs for a job of its own.

    ``turn`` has taken the job. The driver stays for it, or wakes us when it leaves.
    """

    def tell_the_driver() -> None:
        if ownership.remove_guest(job):
            loop.stop()

    job.when_finished = tell_the_driver
    pressed = interrupt_count()
    try:
        _post(job, loop.call_soon_threadsafe, loop.create_task)
        return _wait(job, loop, deadline, pressed, partial(ownership.has_guest, job), is_told=True)
    finally:
        job.when_finished = None


def expire(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the job, whose time is over, and wait for its unwinding."""
    job.has_expired = True
    _cancel(job, loop)


def _post(job: Job[Any], call_soon: Submit, create_task: CreateTask) -> None:
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
) -> WaitResult:
    try:
        if job.wait(deadline.within(deadlines.FIRST_POLL)):
            return WaitResult.OVER
        with raise_on_first_interrupt(pressed):
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
) -> WaitResult:
    pause = deadlines.FIRST_POLL
    seen_idle = False
    while not job.is_finished:
        if deadline.is_over():
            expire(job, loop)
            break
        if not runs():
            # asyncio.run stops its loop between main and clean-up, for a moment only.
            if seen_idle or is_told:
                return WaitResult.STOPPED
            seen_idle = True
        elif job.may_move and is_waiting(loop) and job.withdraw():
            return WaitResult.WITHDRAWN
        else:
            seen_idle = False
        pause = min(2 * pause, deadlines.MAX_POLL)
        job.wait(deadline.within(None if is_told and job.has_begun else pause))
    return WaitResult.OVER


def _cancel(job: Job[Any], loop: asyncio.AbstractEventLoop) -> None:
    if job.refuse(asyncio.CancelledError()):
        return
    with suppress(RuntimeError):  # closed, and the job told so
        loop.call_soon_threadsafe(job.cancel, context=Context())
    grace = Deadline(deadlines.CANCEL_GRACE)
    while not (job.is_finished or grace.is_over()):
        job.wait(grace.left())


def _always() -> bool:
    return True


def dispatch(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    state: LoopState,
    call: SyncCall,
    deadline: Deadline,
) -> None:
    """Return when the job has finished, or ignores that its time is over.

    ``state`` is what ``loop`` is doing now. Loops start, stop and close while we look at them, so
    after every step they are looked at again. A job that has begun stays with its loop; one that
    has not may go to a subloop.
    """
    here = call.blocks
    while True:
        if state is LoopState.CLOSED:
            job.abandon()
        elif state is LoopState.BLOCKED and not job.may_move:
            raise DeadlockError(
                "run_sync waits for a future of an event loop that waits for this one. "
                "Await one of the two instead."
            )
        elif state is LoopState.BLOCKED and not job.has_begun:
            try:
                loop = subloop_of(loop).loop
            except RuntimeError:  # the interpreter is exiting, and starts no threads any more
                return run_on_new_loop(job, call, deadline)
        elif _run_on(job, loop, state, call, deadline) is WaitResult.WITHDRAWN:
            try:
                loop = subloop_of(loop).loop
            except RuntimeError:
                return run_on_new_loop(job, call, deadline)
        if job.is_finished or job.has_expired:
            return None
        state = inspect_loop(loop, here)


def run_on_new_loop(job: Job[Any], call: SyncCall, deadline: Deadline) -> None:
    """Do the job on a loop that is made for it, run here, and closed."""
    managed = ManagedLoop()
    try:
        call.runs = managed.loop
        if call.blocks is None:
            run_idle_loop(managed.loop, job, deadline)
        else:
            with waiting_for(call.blocks, managed.loop):
                run_idle_loop(managed.loop, job, deadline)
    finally:
        managed.close()


def _run_on(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    state: LoopState,
    call: SyncCall,
    deadline: Deadline,
) -> WaitResult:
    if call.blocks is None:
        return _run_in_state(job, loop, state, call, deadline)
    with waiting_for(call.blocks, loop) as may_wait:
        if not may_wait:
            return WaitResult.STOPPED  # that loop has just begun to wait for ours
        return _run_in_state(job, loop, state, call, deadline)


def _run_in_state(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    state: LoopState,
    call: SyncCall,
    deadline: Deadline,
) -> WaitResult:
    if state is LoopState.IDLE or state is LoopState.OURS_ELSEWHERE:
        return _run_or_join(job, loop, call, deadline)
    managed = managed_loop_of(loop)
    return submit(
        job, loop, deadline, managed if managed is not None and managed.has_thread else None
    )


def _run_or_join(
    job: Job[Any], loop: asyncio.AbstractEventLoop, call: SyncCall, deadline: Deadline
) -> WaitResult:
    ownership = ownership_of(loop)
    if not ownership.try_acquire():
        managed = managed_loop_of(loop)
        is_below = any(above.runs is loop for above in enclosing_calls())
        # Whoever is below the driver, or shares its loop by our own doing, need not try to wait.
        patience = 0.0 if is_below or managed is not None else deadlines.OWNERSHIP_WAIT
        with raise_on_first_interrupt(interrupt_count()):
            verdict = _wait_for_ownership(job, loop, ownership, deadline, patience)
        if verdict is not None:
            return verdict
    try:
        state = inspect_loop(loop, call.blocks)
        managed = managed_loop_of(loop)
        if state is LoopState.OURS_ELSEWHERE and managed is not None:
            try:
                managed.start("environment")
            except (RuntimeError, OSError):  # no threads any more: then this one runs it
                managed.owner = threading.get_ident()
        elif state is LoopState.IDLE:
            call.runs = loop
            run_idle_loop(loop, job, deadline, ownership)
    finally:
        call.runs = None
        ownership.release()
    return WaitResult.OVER if job.is_finished else WaitResult.STOPPED


def _wait_for_ownership(
    job: Job[Any],
    loop: asyncio.AbstractEventLoop,
    ownership: LoopOwnership,
    deadline: Deadline,
    patience: float,
) -> WaitResult | None:
    """Wait for our turn. Return None then, or how the visit to the present driver ended."""
    while not ownership.acquire(deadline.within(patience)):
        if deadline.is_over():
            expire(job, loop)
            return WaitResult.OVER
        if ownership.add_guest(job):
            return submit_to_owner(job, loop, deadline, ownership)
        patience = deadlines.FIRST_POLL  # the driver is about to come, or to go
    return None
