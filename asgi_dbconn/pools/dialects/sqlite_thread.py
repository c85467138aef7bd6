"""An aiosqlite connection whose thread outlives its loop and always closes the file.

The thread works through a queue, and reports to the loop. If the loop is closed by then,
aiosqlite's own thread would end, and the file would stay open with its lock.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from weakref import WeakSet, ref

import aiosqlite

from asgi_dbconn.pools.dialects.sqlite_connection import TrackedConnection, close_cursors

__all__ = ["ThreadedConnection"]

T = TypeVar("T")
_Queue = SimpleQueue[tuple[asyncio.Future[Any] | None, Callable[[], Any]]]

_STOP: Final = object()
_log = logging.getLogger("asgi_dbconn")


class ThreadedConnection(aiosqlite.Connection):
    """A connection of one loop. The public methods of aiosqlite's work as there."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        super().__init__(partial(self._open, connect), iter_chunk_size)
        # A daemon, as with SQLAlchemy: it must not keep the interpreter from ending.
        self._thread = threading.Thread(target=_work, args=(self._tx,), daemon=True)
        self.on_closed: Callable[..., None] | None = None
        self._file: sqlite3.Connection | None = None
        self._unfinished: set[ref[Any]] = set()
        self._closed: WeakSet[Any] = WeakSet()
        self._submitted = self._done = 0

    @property
    def is_open(self) -> bool:
        """True if the thread has the file open."""
        return self._connection is not None

    @property
    def is_idle(self) -> bool:
        """True if the thread has done everything that was submitted to it."""
        return self._submitted == self._done

    @property
    def has_unfinished_cursors(self) -> bool:
        """True if a statement may have rows left. Its lock is held as long."""
        return bool(self._unfinished)

    async def submit(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run ``function`` in the thread, even if this is cancelled; return its result."""
        self._submitted += 1
        return await self._call_in_thread(self._count, function, *arguments)

    def wait_idle(self) -> asyncio.Future[None]:
        """Return a future that is done once the thread has done all that was submitted before."""
        idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((idle, _do_nothing))
        return idle

    def close_cursor(self, cursor: sqlite3.Cursor) -> None:
        """Close ``cursor`` before the next statement. Waits for nothing, so cannot be cancelled."""
        if self._running:
            self._tx.put_nowait((None, cursor.close))
            self._unfinished.discard(ref(cursor))

    async def close(self) -> None:
        if self._connection is not None:
            ended = self.stop()
            if ended is not None:
                await ended

    def stop(self) -> asyncio.Future[Any] | None:
        """Close the file when the thread has done all that came before. From any thread."""
        self._running = False
        try:
            ended = asyncio.get_running_loop().create_future()
        except RuntimeError:
            ended = None
        self._tx.put_nowait((ended, self._close_and_stop))
        return ended

    def interrupt_now(self) -> None:
        """Interrupt what is executed at this moment. From any thread."""
        file = self._file
        if file is not None:
            with suppress(sqlite3.ProgrammingError):  # closed a moment ago
                file.interrupt()

    async def _call_in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        if not self._running or self._connection is None:
            raise ValueError("Connection closed")  # aiosqlite's, which SQLAlchemy knows
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, partial(function, *arguments)))
        return await future

    # What follows is executed in the thread.

    def _open(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        file = self._file = connect()
        if isinstance(file, TrackedConnection):
            self._unfinished = file.unfinished
        return file

    def _count(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return function(*arguments)
        finally:
            self._done += 1

    def _close_cursors(self) -> bool:
        closed = close_cursors(self._unfinished)
        self._closed.update(closed)
        return bool(closed)

    def _recover(self) -> None:
        """End an interrupt, which stays in force until a statement begins alone."""
        self._close_cursors()
        self._conn.execute("SELECT 1").close()

    def _prepare_to_close(self, file: sqlite3.Connection) -> None:
        self._close_cursors()
        # With an interrupt in force, SQLite could not write its log into the file.
        file.execute("SELECT 1").close()
        file.rollback()

    def _close_and_stop(self) -> object:
        file, self._file = self._file, None
        for close in () if file is None else (partial(self._prepare_to_close, file), file.close):
            try:
                close()
            except sqlite3.Error as error:
                _log.debug("closing a connection to SQLite: %r", error)
        self._connection = None
        return _STOP


def _do_nothing() -> None:
    """Do nothing, after everything that came before."""


def _work(queue: _Queue) -> None:
    """Call the functions in ``queue``, until one returns ``_STOP``."""
    while True:
        future, function = queue.get()
        try:
            result = function()
        except BaseException as error:  # it is raised in the task that awaits it
            _report(future, _set_exception, error)
        else:
            _report(future, _set_result, result)
            if result is _STOP:
                return
            del result
        del future, function  # nothing is kept alive by a thread that waits


def _report(
    future: asyncio.Future[Any] | None,
    finish: Callable[[asyncio.Future[Any], Any], None],
    outcome: Any,
) -> None:
    if future is not None:
        with suppress(RuntimeError):  # the loop is closed, and no task waits any more
            future.get_loop().call_soon_threadsafe(finish, future, outcome)


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
