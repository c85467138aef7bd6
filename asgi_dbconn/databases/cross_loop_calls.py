"""Call a coroutine function on another running loop, and await its result here.

Only for an isolated database: it is one connection, and cannot have one on each loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Generic, TypeVar

from asgi_dbconn.errors import DeadlockError, LoopError, LoopGoneError
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.deadlines import LoopPoll
from asgi_dbconn.loops.deadlocks import is_blocked, is_waiting

__all__ = ["CrossLoopCaller"]

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class CrossLoopCaller:
    """Calls from other loops to the loop on which it was made.

    They never wait for ever: a loop that ends, stops or is blocked is an error.
    """

    def __init__(self, subject: str, start_timeout: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._subject = subject
        self._start_timeout = start_timeout
        """Seconds in which the loop has to begin a call."""

    @property
    def is_needed(self) -> bool:
        """True if another loop than that one is running here."""
        return asyncio.get_running_loop() is not self.loop

    async def call(self, work: Work[T]) -> T:
        """Run ``work`` there, in this context, and return its result. Cancelled, cancel it there.

        Raises LoopError, LoopGoneError or DeadlockError instead of waiting in vain.
        """
        self._check_loop()
        remote_call = _RemoteCall(work)
        answer = asyncio.wrap_future(remote_call.outcome)
        try:
            self.loop.call_soon_threadsafe(remote_call.begin)
        except RuntimeError as error:
            raise self._loop_gone_error() from error  # closed in this very moment
        try:
            await self._wait(remote_call, answer)
        finally:
            if not answer.done():
                answer.cancel()
                with suppress(RuntimeError):  # closed, and the call with it
                    self.loop.call_soon_threadsafe(remote_call.cancel)
        if remote_call.was_cancelled:
            raise self._loop_gone_error()
        return answer.result()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call ``function`` there soon, and do not wait for it. Raises as :meth:`call` does."""
        self._check_loop()
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError as error:
            raise self._loop_gone_error() from error  # closed in this very moment

    async def _wait(self, remote_call: _RemoteCall[T], answer: asyncio.Future[T]) -> None:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._start_timeout
        poll = LoopPoll(self.loop.is_running, confirms=True)
        pause = deadlines.FIRST_POLL
        while not (await asyncio.wait({answer}, timeout=pause))[0]:
            if poll.has_stopped():
                raise self._loop_gone_error()
            if not remote_call.has_begun and (is_waiting(self.loop) or clock() > give_up_at):
                raise self._deadlock_error()
            pause = poll.next_pause()

    def _check_loop(self) -> None:
        if self.loop.is_closed():
            raise self._loop_gone_error()
        if is_blocked(self.loop):
            raise self._deadlock_error()
        if not self.loop.is_running():
            raise LoopError(
                f"{self._subject} on an event loop that does not run at the moment, and this code "
                "runs on another. Begin it on the loop that does the work."
            )

    def _loop_gone_error(self) -> LoopGoneError:
        return LoopGoneError(
            f"{self._subject} on an event loop that has ended, or was stopped, before it had done "
            "what another loop asked it to. Let that loop live longer than the work."
        )

    def _deadlock_error(self) -> DeadlockError:
        return DeadlockError(
            f"{self._subject} on an event loop that is blocked by synchronous code, and "
            "may be waiting for this one. Await that code's work, or run it in a thread."
        )


class _RemoteCall(Generic[T]):
    """One call to another loop. ``begin`` and ``cancel`` run on that loop."""

    def __init__(self, work: Work[T]) -> None:
        self.outcome: Future[T] = Future()
        self.was_cancelled = False
        """True if it was cancelled there, as by a loop that ends."""
        self._work = work
        self._task: asyncio.Task[T] | None = None

    @property
    def has_begun(self) -> bool:
        return self._task is not None

    def begin(self) -> None:
        if not self.outcome.cancelled():  # no task waits any more
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        error = None if task.cancelled() else task.exception()
        with suppress(InvalidStateError):  # the caller was cancelled meanwhile
            if task.cancelled():
                self.was_cancelled = True
                self.outcome.cancel()
            elif error is not None:
                self.outcome.set_exception(error)
            else:
                self.outcome.set_result(task.result())
