"""``run_sync``: run an awaitable from synchronous code, in any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from inspect import isawaitable
from types import CoroutineType
from typing import Any, TypeVar, cast

from sqlalchemy.util import await_

from asgi_dbconn.errors import DeadlockError, LoopGoneError, NestingError, RunSyncTimeout
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.deadlines import NEVER, Deadline
from asgi_dbconn.loops.deadlocks import SyncCall, find_blocking_veto
from asgi_dbconn.loops.default_loop import (
    app_loop,
    current_environment,
    may_use_loop,
    process_default,
)
from asgi_dbconn.loops.dispatch import dispatch
from asgi_dbconn.loops.idle_loops import can_await_here, ownership_of, run_outside_loops
from asgi_dbconn.loops.job import Job, loop_of
from asgi_dbconn.loops.loop_inspection import LoopState, inspect_from_outside, inspect_loop

__all__ = ["run_sync", "try_idle_loop"]

T = TypeVar("T")


def try_idle_loop(job: Job[Any], loop: asyncio.AbstractEventLoop, call: SyncCall) -> bool:
    """Do the job on ``loop`` if that is idle and has no owner; return whether it was done.

    For a thread in which no loop runs, and without an enclosing call or a deadline. Most calls are
    of this kind. The ownership comes first: its owner sees the loop as it is, and need not inspect
    it again.
    """
    if loop.is_running():
        return False
    ownership = ownership_of(loop)
    if not ownership.try_acquire():
        return False
    try:
        if inspect_from_outside(loop) is not LoopState.IDLE:
            return False
        call.driven_loop = loop
        run_outside_loops(loop, job, NEVER, ownership)
    finally:
        call.driven_loop = None
        ownership.release()
    return True


def run_sync(
    awaitable: Awaitable[T],
    timeout: float | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
) -> T:
    """Wait for any awaitable in synchronous code, and return or raise what it does.

    May be called in any thread, with or without an event loop running in it. The work runs on the
    first of these loops that there is: a future's own, ``loop``, the subloop of the loop that runs
    here and has to wait, that of this context's environment, the one on which the query's database
    is connected, that of the oldest environment, the application's, or one made for this call. In a
    greenlet of ``models.sync`` the running loop does it.

    ``timeout`` is in seconds; None waits for ever, 0 and less has expired. Then, and on Ctrl-C,
    the work is cancelled and gets up to 5 seconds to unwind. Context variables go in, and those
    that the work sets come back.

    Raises RunSyncTimeout, DeadlockError if waiting could never end, LoopGoneError if the loop is
    closed, NestingError if such calls call each other too deeply, and TypeError if ``awaitable``
    is none. What is refused was not begun.
    """
    is_coroutine = type(awaitable) is CoroutineType  # nearly always, and the cheapest question
    if not (is_coroutine or isawaitable(awaitable)):
        raise TypeError(
            f"run_sync needs something to await, not {type(awaitable).__name__}. "
            "Call the coroutine function: run_sync(work()), not run_sync(work)."
        )
    here = asyncio._get_running_loop()
    if here is not None and loop is None and can_await_here():
        return await_(awaitable if timeout is None else _within(awaitable, timeout))
    future: Any = None if is_coroutine or not asyncio.isfuture(awaitable) else awaitable
    call = SyncCall(blocked_loop=here)
    job = Job(awaitable, call, may_move=future is None)
    try:
        wanted = _choose_loop(awaitable, future, loop, here)
        is_simple = here is None and future is None and timeout is None and call.parent is None
        if not (is_simple and wanted is not None and try_idle_loop(job, wanted, call)):
            if future is not None and future.done():
                return cast("asyncio.Future[T]", future).result()
            state = inspect_loop(wanted, here)
            _refuse_impossible(awaitable, state, call, is_future=future is not None)
            if timeout is not None and timeout <= 0:
                job.has_expired = True
                job.refuse(asyncio.CancelledError())
            else:
                dispatch(job, wanted, state, call, NEVER if timeout is None else Deadline(timeout))
    except BaseException:
        job.refuse(asyncio.CancelledError())  # no caller waits for it any more
        raise
    finally:
        call.close()
    return job.result()


def _choose_loop(
    awaitable: Awaitable[Any],
    future: Any,
    explicit: asyncio.AbstractEventLoop | None,
    here: asyncio.AbstractEventLoop | None,
) -> asyncio.AbstractEventLoop | None:
    if future is not None:
        loop: asyncio.AbstractEventLoop = future.get_loop()
        return loop  # a future cannot be awaited on another loop
    found = explicit or here
    if found is not None:
        return found  # dispatch() takes the subloop of a loop that is blocked
    environment = current_environment()
    if environment is not None:
        return environment.loop
    preferred = loop_of(awaitable)
    if preferred is not None and may_use_loop(preferred):
        return preferred
    environment = process_default()
    return environment.loop if environment is not None else app_loop()


async def _within(awaitable: Awaitable[T], timeout: float) -> T:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await awaitable
    except TimeoutError as error:
        if not limit.expired():
            raise  # its own
        raise RunSyncTimeout(
            f"The timeout of run_sync, {timeout:g} s, was over before the work had finished; it "
            "has been cancelled. Give it more time, or let it do less."
        ) from error


def _refuse_impossible(
    awaitable: Awaitable[Any], state: LoopState, call: SyncCall, *, is_future: bool
) -> None:
    """Raise the LoopError of what could not end: a deadlock, a closed loop, a recursion."""
    if state is LoopState.BLOCKED and is_future:
        raise DeadlockError(
            "run_sync was given a future of the very event loop that it would block, so no task "
            "could ever finish it. Await it, or call this synchronous code by "
            "`await models.sync(...)`."
        )
    if state is LoopState.CLOSED:
        raise LoopGoneError(
            "The event loop that run_sync was to use is closed, or belongs to the process that "
            "this one was forked from. Give a loop that is open, or none."
        )
    if call.depth() >= deadlines.MAX_DEPTH:
        raise NestingError(
            f"run_sync was called by what run_sync runs, {deadlines.MAX_DEPTH} levels deep, which "
            "is probably a recursion without an end. Let the inner functions be async, and await "
            "them."
        )
    held = find_blocking_veto(call.blocked_loop, awaitable) if state is LoopState.BLOCKED else None
    if held is not None:
        raise DeadlockError(
            f"run_sync would block the event loop that holds {held}, and what it runs meanwhile "
            "could wait for that for ever. Call this synchronous code by `await models.sync(...)`: "
            "it then runs on the same loop, connection and transaction."
        )
