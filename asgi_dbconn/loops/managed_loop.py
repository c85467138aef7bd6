"""Managed loops: event loops that this package makes and closes. Subloops are among them.

A managed loop is run by the thread that owns it, or in a thread of its own. A subloop is the
managed loop, in a thread of its own, for code that blocks its parent: one per parent. It ends when
its parent is closed or collected, which needs no polling.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.fork import after_every_fork, keep_forever
from asgi_dbconn.loops.idle_loops import ownership_of, run_with_deadline
from asgi_dbconn.loops.loop_lifetime import PerLoop, begin_shutdown, watcher_of

__all__ = ["ManagedLoop", "Submit", "WakeupQueue", "managed_loop_of", "shut_down", "subloop_of"]

_log = logging.getLogger("asgi_dbconn")


class WakeupQueue:
    """A queue of callbacks for a loop that another thread runs. Any thread may put.

    It does what ``call_soon_threadsafe`` does, for less. uvloop's wakes its thread while the caller
    still holds the interpreter's lock: that thread sleeps again immediately, and the two change
    places three times instead of once. A byte through a socket wakes a thread without the lock.
    It is made before its loop runs, and closed after the loop has stopped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the queue.

        Raises OSError if the process has no descriptors left, NotImplementedError if the loop
        cannot wait for sockets: Windows' proactor.
        """
        self._callbacks: deque[tuple[Callable[..., object], tuple[Any, ...], Context]] = deque()
        self._receiver, self._sender = socket.socketpair()
        try:
            self._receiver.setblocking(False)
            self._sender.setblocking(False)
            loop.add_reader(self._receiver.fileno(), self._run_all)
        except BaseException:
            self._close_sockets()
            raise

    def put(self, callback: Callable[..., object], *args: Any, context: Context) -> None:
        """Call ``callback(*args)`` in ``context`` on the loop, soon and in the order of the calls.

        Raises OSError if the queue is closed. Callbacks that were not called by then are dropped.
        """
        self._callbacks.append((callback, args, context))
        try:
            self._sender.send(b"\0")
        except BlockingIOError:
            return  # thousands of bytes wait there already: the loop knows

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the queue, in the loop's thread, while the loop does not run."""
        loop.remove_reader(self._receiver.fileno())
        self._close_sockets()

    def _run_all(self) -> None:
        # At least as many as there were bytes: a callback is in the queue before its byte is sent.
        self._receiver.recv(4096)
        for _ in range(len(self._callbacks)):
            callback, args, context = self._callbacks.popleft()
            context.run(callback, *args)

    def _close_sockets(self) -> None:
        self._receiver.close()
        self._sender.close()


def shut_down(
    loop: asyncio.AbstractEventLoop, clean_ups: Iterable[Callable[[], Awaitable[object]]]
) -> None:
    """Run the clean-ups, cancel every task, end the async generators and the default executor.

    In the calling thread, which owns the idle ``loop``. Each step has a time limit, so that the
    loop ends although a task refuses to. A failure is logged, and the next step follows.
    """
    for clean_up in clean_ups:
        _step(loop, _run_to_end(clean_up), "a clean-up")
    _cancel_tasks(loop)
    _step(loop, loop.shutdown_asyncgens(), "an async generator")
    _step(loop, loop.shutdown_default_executor(), "the default executor")


async def _run_to_end(clean_up: Callable[[], Awaitable[object]]) -> None:
    await clean_up()


def _step(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], what: str) -> None:
    task = run_with_deadline(loop, work, deadlines.CANCEL_GRACE)
    if not task.done():
        task.cancel()
        _log.warning("an event loop ended without %s, which took too long", what)
    elif not task.cancelled() and task.exception() is not None:
        _log.warning("an event loop ended, and %s failed", what, exc_info=task.exception())


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _step(loop, _all_done(tasks), "some of its tasks")
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            message = "unhandled exception while a loop was ending"
            loop.call_exception_handler(
                {"message": message, "exception": task.exception(), "task": task}
            )


async def _all_done(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


Submit = Callable[..., object]
_KNOWN_KINDS: Final = {"asyncio", "uvloop", "winloop"}


class ManagedLoop:
    """A loop that lives until :meth:`close`, or until :meth:`stop` once it has a thread.

    Without a thread it is run by its owner, as any idle loop is. In its thread it runs until it is
    stopped, at the latest by the exit of the interpreter.
    """

    def __init__(self, like: asyncio.AbstractEventLoop | None = None) -> None:
        """Make a loop of the same kind as ``like``.

        Raises OSError if the process has no descriptors left.
        """
        self.loop = _same_kind(like)
        self.owner = threading.get_ident()
        """The identifier of the thread that it belongs to."""
        self.has_thread = False
        """True if it runs in a thread of its own, so that work is submitted to it."""
        self._thread: threading.Thread | None = None
        self._queue: WakeupQueue | None = None
        self._is_closing = False
        self._close_lock = threading.Lock()
        self._clean_ups: list[Callable[[], Awaitable[object]]] = []
        _all.add(self)

    @property
    def is_closing(self) -> bool:
        return self._is_closing

    @property
    def submit(self) -> Submit:
        """A function that does what ``call_soon_threadsafe`` does. The loop has a thread.

        It raises RuntimeError or OSError if the loop is closed.
        """
        return self.loop.call_soon_threadsafe if self._queue is None else self._queue.put

    def add_cleanup(self, clean_up: Callable[[], Awaitable[object]]) -> None:
        """Await ``clean_up()`` on the loop when it ends, before its tasks are cancelled.

        For any thread. The last one comes first. Each has CANCEL_GRACE seconds, and a failure is
        logged. A loop that is closing already runs none.
        """
        self._clean_ups.append(clean_up)

    def start(self, name: str) -> None:
        """Give it a thread, once, and only while no thread runs it: the caller owns it.

        Raises RuntimeError if no thread can be started, as late in the interpreter's exit, and
        OSError if the process has no descriptors left.
        """
        thread = threading.Thread(target=self._serve, name=f"asgi-dbconn {name}", daemon=True)
        with suppress(NotImplementedError):
            self._queue = WakeupQueue(self.loop)
        try:
            thread.start()
        except BaseException:
            self._close_queue()
            raise
        self._thread = thread
        self.has_thread = True

    def stop(self) -> None:
        """Tell the thread to close the loop, and do not wait for that.

        Takes no lock, so that the garbage collector may call it, in any thread.
        """
        self._is_closing = True
        with suppress(RuntimeError):  # closed already
            self.loop.call_soon_threadsafe(self.loop.stop, context=Context())

    def close(self) -> None:
        """Shut the loop down and close it. Returns when it is closed. For any thread but its own.

        Calls that still wait for it raise LoopGoneError. The second call waits for the first one.
        """
        thread = self._thread
        if thread is not None:
            self.stop()
            thread.join()
            return
        ownership = ownership_of(self.loop)
        ownership.acquire(None)
        try:
            if self._thread is None:
                self._is_closing = True
                self._finish()
                return
        finally:
            ownership.release()
        self.close()  # it was given a thread while this one waited for the ownership

    def _serve(self) -> None:
        while not self._is_closing:
            # A task may stop the loop, or raise SystemExit through it. Others still need it.
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        self._finish()

    def _finish(self) -> None:
        with self._close_lock:
            if self.loop.is_closed():
                return
            begin_shutdown(self.loop)
            try:
                shut_down(self.loop, reversed(self._clean_ups))
            finally:
                self._close_queue()
                self.loop.close()
                _all.remove(self)

    def _close_queue(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close(self.loop)


class _All:
    """All managed loops that are not closed, so that exit closes them and a child leaves them."""

    def __init__(self) -> None:
        self.by_loop: Final[dict[asyncio.AbstractEventLoop, ManagedLoop]] = {}
        self._is_registered = False
        after_every_fork(self._in_child)

    def add(self, managed: ManagedLoop) -> None:
        if not self._is_registered:
            # Late, so that it is called before the hooks that were registered earlier: they cannot
            # start a thread any more, but they can still run a loop.
            self._is_registered = True
            atexit.register(self._at_exit)
        self.by_loop[managed.loop] = managed

    def remove(self, managed: ManagedLoop) -> None:
        self.by_loop.pop(managed.loop, None)

    def _at_exit(self) -> None:
        managed_loops = [managed for managed in list(self.by_loop.values()) if managed.has_thread]
        for managed in managed_loops:
            managed.stop()
        for managed in managed_loops:
            if managed._thread is not None:
                managed._thread.join(2 * deadlines.CANCEL_GRACE)

    def _in_child(self) -> None:
        # Closing them would reach into the parent's selectors, and so would their finalisers.
        keep_forever(dict(self.by_loop))
        self.by_loop.clear()


_all: Final = _All()
managed_loop_of: Final = _all.by_loop.get
"""The record of a loop if it is managed and not closed, else None."""


def _same_kind(like: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
    for kind in type(like).__mro__:
        # Not the user's own subclass: it may need arguments.
        if kind.__module__.partition(".")[0] in _KNOWN_KINDS:
            loop: asyncio.AbstractEventLoop = kind()
            return loop
    return asyncio.new_event_loop()


def subloop_of(parent: asyncio.AbstractEventLoop) -> ManagedLoop:
    """Return the subloop of ``parent``, the same one as long as both live. For any thread.

    Raises OSError if the process has no descriptors left, RuntimeError if it gets no thread.
    """
    managed = _subloops.get_or_create(parent)
    if managed.is_closing:
        _subloops.forget(parent)
        managed = _subloops.get_or_create(parent)
    return managed


def _begin(parent: asyncio.AbstractEventLoop) -> ManagedLoop:
    managed = ManagedLoop(like=parent)
    try:
        managed.start("subloop")
    except BaseException:
        managed.close()
        raise
    watcher_of(parent).add(managed.stop)
    return managed


_subloops: Final = PerLoop(_begin)
