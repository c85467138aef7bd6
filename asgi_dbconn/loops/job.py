"""One awaitable, its result, and the thread that waits for it.

A coroutine around the awaitable reports the result from inside the loop. So there is no future, no
chain of callbacks, and no exception that could end the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

from asgi_dbconn.errors import LoopGoneError, RunSyncTimeout
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.asgiref_compat import belongs_to_another_thread, forget_the_waiting_thread
from asgi_dbconn.loops.deadlocks import SyncCall
from asgi_dbconn.loops.loop_lifetime import is_shutting_down

__all__ = ["CreateTask", "Job", "create_eager_task", "discard", "loop_of"]

T = TypeVar("T")


def discard(awaitable: Any) -> None:
    """Close work that will not begin, so that no warning says that it was never awaited.

    A future belongs to other code, too. It is left alone.
    """
    if isinstance(awaitable, Coroutine):
        with suppress(ValueError, RuntimeError):  # it is running, or does not end when told to
            awaitable.close()


def loop_of(awaitable: Any) -> asyncio.AbstractEventLoop | None:
    """Return the loop that the awaitable prefers, or None.

    Its method ``__asgi_dbconn_loop__()`` is called for that. It returns a loop or None and must not
    wait. Ask only where no loop runs and none was given.
    """
    ask = getattr(type(awaitable), "__asgi_dbconn_loop__", None)
    loop: asyncio.AbstractEventLoop | None = None if ask is None else ask(awaitable)
    return loop


CreateTask = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""The ``create_task`` of a loop, or another function that does the same."""
_MISSING: Any = object()


class Job(Generic[T]):
    """A job of ``run_sync``. The thread that waits for it makes it.

    ``start``, ``cancel`` and the work belong to the loop. Everything else may be called from any
    thread. It finishes exactly once, by what comes first: the result, an error, a cancellation
    before the first step, or the end of its loop.
    """

    # Defaults that most jobs never change: on the class they cost nothing.
    is_finished = False
    has_expired = False
    """True if it was cancelled at its deadline."""
    when_finished: Callable[[], object] | None = None
    """Called in the thread where it finishes, just before the waiting thread is woken."""
    _before: Context | None = None
    _after: Context | None = None
    _task: asyncio.Task[None] | None = None
    _result: T = _MISSING
    _error: BaseException | None = None
    _work_coroutine: Coroutine[Any, Any, None] | None = None
    _is_unentered = True
    """True until the awaitable itself has begun."""
    _is_handed_over = True
    """True unless the calling thread runs the loop itself, in its own context."""
    _is_cancelled = False
    _caller_gave_up = False
    """True if the caller has left at its deadline, and the work goes on."""

    def __init__(self, awaitable: Awaitable[T], call: SyncCall, *, may_move: bool) -> None:
        self.may_move = may_move
        """True if another loop may do it before it has begun, because it is no future."""
        self._awaitable = awaitable
        self._call = call
        # Lists with one element, which is popped in one atomic step: so each happens once.
        self.ticket: list[None] = [None]
        """The right to begin. ``withdraw()`` makes another, so that callbacks that were scheduled
        with the old one do nothing."""
        self._to_finish: list[None] = [None]
        self._lock = threading.Lock()
        self._lock.acquire()

    # -- on the loop

    def start(self, ticket: list[None], create_task: CreateTask) -> None:
        """Begin the work on the running loop, by ``create_task``, in the current context.

        The context comes from ``asgiref_compat.context_for_another_thread``.
        """
        if not _take_ticket(ticket):
            return  # withdrawn
        if is_shutting_down(asyncio.get_running_loop()):
            self._refuse(_loop_gone_error("is being closed"))
        else:
            self._start(create_task)

    def start_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the work on a loop that this thread is about to run."""
        if _take_ticket(self.ticket):
            self._is_handed_over = False
            self._start(loop.create_task)

    def cancel(self) -> None:
        """Ask the work to unwind. Does nothing once it has finished."""
        self._is_cancelled = True
        if self._task is not None and not self.is_finished:
            self._task.cancel()

    def expire(self) -> None:
        """Cancel it as :meth:`cancel` does, because its time is over."""
        self.has_expired = True
        self.cancel()

    # -- from anywhere

    @property
    def has_begun(self) -> bool:
        """True if it can no longer be withdrawn."""
        return not self.ticket

    def withdraw(self) -> bool:
        """Withdraw it. Return whether it had not begun, and may therefore begin elsewhere."""
        if not _take_ticket(self.ticket):
            return False
        self.ticket = [None]
        return True

    def refuse(self, error: BaseException) -> bool:
        """Refuse it. Return whether it had not begun. Then it ends with ``error``."""
        if not _take_ticket(self.ticket):
            return False
        self._refuse(error)
        return True

    def wait(self, seconds: float | None) -> bool:
        """Return whether it has finished within ``seconds``; None waits for ever.

        Returns early after :meth:`wake`. Only for the thread that made the job.
        """
        if not self.is_finished:
            longest = threading.TIMEOUT_MAX if seconds is None else max(0.0, seconds)
            self._lock.acquire(timeout=min(longest, threading.TIMEOUT_MAX))
        return self.is_finished

    def wake(self) -> None:
        """Wake the waiting thread, so that it looks for a change."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # woken already

    def fail_for_closed_loop(self) -> None:
        """End the job because its loop will never run again."""
        if not self.refuse(_loop_gone_error("was closed")):
            if self._is_unentered and not self.is_finished:
                discard(self._work_coroutine)
                discard(self._awaitable)
            self._finish(_MISSING, _loop_gone_error("was closed"))

    def result(self) -> T:
        """Return the result, or raise the error, in the waiting thread.

        The work's context variables are copied back, unless the work goes on although it was
        cancelled.
        """
        if not self.is_finished:
            self._caller_gave_up = True
            raise RunSyncTimeout(
                f"The timeout of run_sync is over, and {self} ignores its cancellation for "
                f"{deadlines.CANCEL_GRACE:g} s. It goes on, unwatched. "
                "Let CancelledError pass through it."
            )
        self._copy_context_back()
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            if self.has_expired and isinstance(error, asyncio.CancelledError):
                raise RunSyncTimeout(
                    f"The timeout of run_sync was over before {self} had finished; it has been "
                    "cancelled. Give it more time, or let it do less."
                ) from error
            raise error
        finally:
            del error  # or error, traceback and frame refer to each other

    def __str__(self) -> str:
        name = getattr(self._awaitable, "__qualname__", None)
        return name if isinstance(name, str) else type(self._awaitable).__qualname__

    # -- inside

    def _start(self, create_task: CreateTask) -> None:
        self._work_coroutine = self._work()
        task = create_task(self._work_coroutine)
        if self._is_unentered:
            self._task = task
            task.add_done_callback(self._task_is_done)
        if self._is_cancelled:
            task.cancel()

    async def _work(self) -> None:
        self._is_unentered = False
        try:
            if self._task is None:
                self._task = asyncio.current_task()  # it began eagerly, while it was created
            else:
                self._task.remove_done_callback(self._task_is_done)
            self._call.enter()
            if not self._is_handed_over:
                forget_the_waiting_thread()
            # Copied after our own changes, so that they do not count as the work's.
            self._before = copy_context()
            self._result = await self._awaitable
            error = None
        except BaseException as raised:
            # All errors: SystemExit, too, belongs to the thread that waits, not to this loop.
            error = self._translate_cancellation(raised)
        self._after = copy_context()
        self._finish(self._result, error)

    def _translate_cancellation(self, error: BaseException) -> BaseException:
        task = self._task
        if task is None:
            return error
        if isinstance(error, GeneratorExit) and task.get_loop().is_closed():
            return _loop_gone_error("was closed")  # the garbage collector ends the work
        if not isinstance(error, asyncio.CancelledError) or self._is_cancelled:
            return error
        if _loop_is_ending(task):
            cancelled = _loop_gone_error("ended, and cancelled its work")
            cancelled.__cause__ = error
            return cancelled
        return error

    def _task_is_done(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step never enters the wrapper.
        if task.cancelled() and not self.is_finished:
            error: BaseException = asyncio.CancelledError()
            if not self._is_cancelled and _loop_is_ending(task):
                error = _loop_gone_error("ended before the work had begun")
            self._refuse(error)

    def _refuse(self, error: BaseException) -> None:
        discard(self._awaitable)
        self._finish(_MISSING, error)

    def _finish(self, result: T, error: BaseException | None) -> None:
        try:
            self._to_finish.pop()
        except IndexError:
            return  # the loop was closed in the meantime, and the job has ended
        self._result, self._error = result, error
        self._task = self._work_coroutine = None  # they refer to us
        self.is_finished = True
        if self._caller_gave_up and error is not None:
            self._report(error)
        if self.when_finished is not None:
            self.when_finished()
        self.wake()

    def _report(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):
            message = f"{self} failed after run_sync had given up waiting for it"
            asyncio.get_running_loop().call_exception_handler(
                {"message": message, "exception": error}
            )

    def _copy_context_back(self) -> None:
        before = self._before
        if before is not None and self._after is not None:
            for variable, value in self._after.items():
                # By identity: to compare values would run code that does not expect it.
                if before.get(variable, _MISSING) is not value and not belongs_to_another_thread(
                    value
                ):
                    variable.set(value)


def _take_ticket(ticket: list[None]) -> bool:
    try:
        ticket.pop()
    except IndexError:
        return False
    return True


def _loop_gone_error(what: str) -> LoopGoneError:
    return LoopGoneError(
        f"The event loop that run_sync handed its work to {what}. "
        "Finish such work before the loop ends, or give a loop that lives longer."
    )


def _loop_is_ending(task: asyncio.Task[Any]) -> bool:
    """Return whether ``task`` was cancelled because its loop shuts down."""
    if is_shutting_down(task.get_loop()):
        return True
    # asyncio.run and Runner cancel all tasks before any of them takes another step.
    others = asyncio.all_tasks(task.get_loop())
    return (task.cancelled() or task.cancelling() > 0) and all(
        other.cancelling() > 0 for other in others
    )


def create_eager_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Create a task on a managed loop, and take its first step while it is created.

    Submitted work is thus done, or on its way to the server, one iteration of the loop earlier. A
    loop of other code may rely on tasks that begin later. Call it in the loop's thread, outside of
    any task. It returns after the first step, and perhaps when the work is done.
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

    Python 3.11 has no eager tasks. There a new task schedules its first step by ``call_soon`` of
    its loop, and does nothing else with the loop. So that call is caught, and the step taken.
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
