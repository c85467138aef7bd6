"""aiosqlite's connection, which can be stopped, put in order, and closed without leaving a lock.

Its thread works through a queue. A statement whose task was cancelled is worked on all the same:
it has to be waited for, and interrupted if it takes long. An interrupt hits everything until the
last unfinished cursor is closed, the ROLLBACK too.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from weakref import WeakSet, ref

import aiosqlite

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.pools.dialects.sqlite_file import (
    TrackedConnection,
    TrackedCursor,
    close_cursors,
)
from asgi_dbconn.pools.dialects.sqlite_statements import Kind, kind_of
from asgi_dbconn.pools.dialects.sqlite_transaction import SQLiteTransaction, is_busy

__all__ = ["DriverConnection", "Outcome"]

T = TypeVar("T")
_Queue = SimpleQueue[tuple[asyncio.Future[Any] | None, Callable[[], Any]]]

_READING_PATIENCE: Final = 0.01
"""Seconds after which a statement that reads is interrupted; nothing else is lost with it."""
_WRITING_PATIENCE: Final = 0.1
"""The same for one that may write: SQLite rolls its whole transaction back."""
_REPEATED_AFTER: Final = 0.05
"""Seconds between two interrupts; one that comes before its statement is ignored."""
_LOCK_PATIENCE: Final = 0.4
"""Seconds after which a statement is given up that waits for a lock: no interrupt reaches it."""
_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05, 0.1)
"""Seconds between two attempts to get the write lock; SQLite's own."""
_STOP: Final = object()


class Outcome:
    """The result of one statement, by the names that a cursor has for it."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount", "rows")

    def __init__(self) -> None:
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1
        self.rows: deque[Any] = deque()


class DriverConnection(aiosqlite.Connection):
    """Belongs to one loop and one thread. What is public in aiosqlite's works as there."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        super().__init__(partial(self._open, connect), iter_chunk_size)
        # Reports to a loop that may be closed by then. A daemon, as with SQLAlchemy: the
        # interpreter must be able to end.
        self._thread = threading.Thread(target=_work, args=(self._tx,), daemon=True)
        self.transaction = SQLiteTransaction()
        self.patience = _WRITING_PATIENCE
        """Seconds for which a statement that may write is not interrupted."""
        self.is_autocommit = False
        """Whether SQLAlchemy was asked for the isolation level AUTOCOMMIT."""
        self.is_query_only = False
        self.when_ended: Callable[..., None] | None = None
        self._file: sqlite3.Connection | None = None
        self._unfinished: set[ref[Any]] = set()
        self._closed: WeakSet[Any] = WeakSet()
        self._sent = self._done = 0
        self._kind = Kind.WRITES
        self._is_waiting_over = threading.Event()
        self._busy_timeout: int | None = None

    @classmethod
    def to(cls, database: Any, *, iter_chunk_size: int = 64, **arguments: Any) -> DriverConnection:
        """Return a connection that opens the file ``database`` when it is awaited."""
        arguments.setdefault("factory", TrackedConnection)
        return cls(partial(sqlite3.connect, database, **arguments), iter_chunk_size)

    # --- in the loop ---

    @property
    def is_idle(self) -> bool:
        """Whether its thread has done everything that it was asked for."""
        return self._sent == self._done

    @property
    def has_unfinished_cursors(self) -> bool:
        return bool(self._unfinished)

    async def perform(
        self, outcome: Outcome, statement: str, parameters: Any, *, many: bool
    ) -> None:
        """Execute ``statement``, and read all of its rows: in one go, so that nothing is left."""
        kind = kind_of(statement)
        await self._submit(kind, self._perform, outcome, kind, statement, parameters, many)

    async def open_cursor(
        self, statement: str, parameters: Any, keep: Callable[[sqlite3.Cursor], None]
    ) -> None:
        """Execute ``statement``; its rows are fetched afterwards, from what is given to ``keep``.

        That is called in the thread: whoever is cancelled has a cursor to close, too.
        """
        kind = kind_of(statement)
        await self._submit(kind, self._open_cursor, kind, statement, parameters, keep)

    async def fetch(self, kind: Kind, cursor: Any, fetch: Callable[[], T]) -> T:
        """Return what ``fetch`` gets from a cursor that was opened here."""
        return await self._submit(kind, self._fetch, cursor, fetch)

    def close_cursor(self, cursor: sqlite3.Cursor) -> None:
        """Finish it before whatever comes next. Waits for nothing, so it cannot be cancelled."""
        if self._running:
            self._tx.put_nowait((None, cursor.close))
            self._unfinished.discard(ref(cursor))

    async def end_transaction(self, statements: Iterable[str]) -> None:
        """Commit or roll back, as ``statements`` say. Raises TransactionAborted instead of the
        commit of what SQLite has rolled back by itself."""
        await self._submit(Kind.WRITES, self._end_transaction, statements)

    async def settle(self, limit: float) -> bool:
        """Wait until the thread is idle; interrupt what takes long.

        Return False if that takes more than ``limit`` seconds, or if the connection is closed.
        """
        if self._connection is None:
            return False
        idle: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((idle, _nothing))
        return await self._hurry(idle, limit)

    async def stop_statement(self, free: Awaitable[None], limit: float) -> bool:
        """The same from another task, where ``free`` tells that the statement has ended."""
        waiting = asyncio.ensure_future(free)
        try:
            return await self._hurry(waiting, limit)
        finally:
            if not waiting.done():
                waiting.cancel()

    async def put_in_order(self, limit: float) -> bool:
        """Roll back whatever was left on it. Return False if it has to be closed."""
        if not await self.settle(limit):
            return False
        try:
            await self._hop(self._put_in_order)
        except (ValueError, sqlite3.Error):
            return False
        return True

    async def finish(self, limit: float) -> None:
        """End whatever goes on, roll it back, and close the file."""
        await self.settle(limit)
        await self.close()

    async def close(self) -> None:
        if self._connection is not None:
            ended = self.stop()
            if ended is not None:
                await ended

    def stop(self) -> asyncio.Future[Any] | None:
        """Close it as soon as its thread comes to that. From any thread."""
        self._running = False
        try:
            ended = asyncio.get_running_loop().create_future()
        except RuntimeError:
            ended = None
        self._tx.put_nowait((ended, self._close_and_stop))
        return ended

    def interrupt_now(self) -> None:
        """Interrupt what is executed at this moment. From any thread."""
        self._is_waiting_over.set()
        file = self._file
        if file is not None:
            with suppress(sqlite3.ProgrammingError):  # closed a moment ago
                file.interrupt()

    async def _execute(self, fn: Callable[..., T], *arguments: Any, **named: Any) -> T:
        # Whatever is asked for through aiosqlite's own methods.
        self._busy_timeout = None
        return await self._submit(Kind.WRITES, self._do, partial(fn, *arguments, **named))

    async def _submit(self, kind: Kind, function: Callable[..., T], *arguments: Any) -> T:
        self._kind = kind
        self._sent += 1
        return await self._hop(self._count, function, *arguments)

    async def _hop(self, function: Callable[..., T], *arguments: Any) -> T:
        if not self._running or self._connection is None:
            raise ValueError("Connection closed")  # aiosqlite's, which SQLAlchemy knows
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, partial(function, *arguments)))
        return await future

    async def _hurry(self, ended: asyncio.Future[Any], limit: float) -> bool:
        clock = asyncio.get_running_loop().time
        begun_at = clock()
        patience = _READING_PATIENCE if self._kind is Kind.READS else self.patience
        if self._kind is Kind.WRITES and self.transaction.may_wait_for_lock:
            limit = min(limit, patience + _LOCK_PATIENCE)
        self._is_waiting_over.set()
        await asyncio.wait({ended}, timeout=min(patience, limit))
        if ended.done():
            return self._connection is not None
        while not ended.done():
            left = begun_at + limit - clock()
            if left <= 0:
                return False
            self.interrupt_now()
            await asyncio.wait({ended}, timeout=min(left, _REPEATED_AFTER))
        try:
            await self._hop(self._recover)
        except (ValueError, sqlite3.Error):
            return False
        return True

    # --- in the thread ---

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

    def _do(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except sqlite3.Error as error:
            self.transaction.note_failure(self._conn, error)
            raise

    def _perform(
        self,
        outcome: Outcome,
        kind: Kind,
        statement: str,
        parameters: Any,
        many: bool,  # noqa: FBT001 - from the queue
    ) -> None:
        file = self._conn
        # Not one that is tracked: nothing of it is left.
        cursor = sqlite3.Connection.cursor(file)
        try:
            self._run(kind, cursor.executemany if many else cursor.execute, statement, parameters)
            if cursor.description is not None:
                outcome.rows = deque(cursor.fetchall())
        except sqlite3.Error as error:
            self.transaction.note_failure(file, error)
            raise
        finally:
            cursor.close()
        outcome.description = cursor.description
        outcome.lastrowid = cursor.lastrowid
        outcome.rowcount = cursor.rowcount

    def _open_cursor(
        self,
        kind: Kind,
        statement: str,
        parameters: Any,
        keep: Callable[[sqlite3.Cursor], None],
    ) -> None:
        file = self._conn
        cursor: sqlite3.Cursor = file.cursor()
        try:
            self._run(kind, cursor.execute, statement, parameters)
        except sqlite3.Error as error:
            cursor.close()
            self.transaction.note_failure(file, error)
            raise
        if not isinstance(cursor, TrackedCursor):  # connect_args have chosen another class
            self._unfinished.add(ref(cursor, self._unfinished.discard))
        keep(cursor)

    def _fetch(self, cursor: Any, fetch: Callable[[], T]) -> T:
        if cursor in self._closed:
            raise TransactionAborted(
                "The rows of this stream cannot be read on: a statement beside it was interrupted, "
                "or its transaction was ended, and SQLite ends all streams of the connection with "
                "that. Read the stream to its end before, or begin the transaction once more."
            )
        return self._do(fetch)

    def _run(
        self, kind: Kind, execute: Callable[..., Any], statement: str, parameters: Any
    ) -> None:
        transaction, file = self.transaction, self._conn
        if kind is not Kind.CONTROLS or transaction.ended_by is not None:
            transaction.check(file)  # a BEGIN by hand may follow a COMMIT by hand
        try:
            if statement == "BEGIN IMMEDIATE":
                self._begin_immediate(file)
            else:
                execute(statement, parameters)
        except sqlite3.OperationalError as error:
            if not transaction.needs_restart(error, kind):
                raise
            self._restart(file, error)
            execute(statement, parameters)
        transaction.note_success(kind, statement)
        if kind is not Kind.READS:
            self._busy_timeout = None  # maybe this was the statement that sets it

    def _restart(self, file: sqlite3.Connection, error: sqlite3.OperationalError) -> None:
        """Begin a transaction that has only read anew, with the write lock."""
        if self._unfinished:
            raise _explained(error) from None
        transaction = self.transaction
        file.rollback()
        try:
            self._begin_immediate(file)
            transaction.can_restart = False
        except sqlite3.OperationalError:
            file.execute("BEGIN DEFERRED")
            raise
        finally:
            for name in transaction.savepoints:
                file.execute(f"SAVEPOINT {name}")

    def _begin_immediate(self, file: sqlite3.Connection) -> None:
        """Wait for the write lock as SQLite would, but so that the waiting can be ended."""
        execute = partial(sqlite3.Connection.execute, file)
        if self._busy_timeout is None:
            (self._busy_timeout,) = execute("PRAGMA busy_timeout").fetchone()
        self._is_waiting_over.clear()
        give_up_at = time.monotonic() + self._busy_timeout / 1000
        execute("PRAGMA busy_timeout=0")
        try:
            for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
                try:
                    execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    left = give_up_at - time.monotonic()
                    if not is_busy(error) or left <= 0:
                        raise
                    if self._is_waiting_over.wait(min(pause, left)):
                        raise
                else:
                    return
        finally:
            execute(f"PRAGMA busy_timeout={self._busy_timeout}")

    def _end_transaction(self, statements: Iterable[str]) -> None:
        transaction, file = self.transaction, self._conn
        is_commit = not any(statement.startswith("ROLLBACK") for statement in statements)
        if is_commit and (transaction.ended_by is not None or transaction.is_permanent):
            transaction.check(file)  # SQLAlchemy asks for a rollback then, before all else
        if file.in_transaction and transaction.is_anything_begun:
            for statement in statements:
                try:
                    file.execute(statement)
                except sqlite3.OperationalError:
                    # An unfinished statement that writes, or an interrupt that is still in force.
                    if not self._close_cursors():
                        raise
                    file.execute(statement)
        transaction.end()
        self._allow_writes(file)

    def _allow_writes(self, file: sqlite3.Connection) -> None:
        if self.is_query_only:
            self.is_query_only = False
            file.execute("PRAGMA query_only=OFF")

    def _close_cursors(self) -> bool:
        closed = close_cursors(self._unfinished)
        self._closed.update(closed)
        return bool(closed)

    def _recover(self) -> None:
        """End an interrupt, which else stays in force until a statement begins alone."""
        self._close_cursors()
        self._conn.execute("SELECT 1").close()

    def _put_in_order(self) -> None:
        self._recover()
        if not self.transaction.is_permanent:
            self._conn.rollback()
        self.transaction.end()
        self._allow_writes(self._conn)

    def _close_and_stop(self) -> object:
        file, self._file, self._connection = self._file, None, None
        if file is not None:
            close_cursors(self._unfinished)
            try:
                # Else an interrupt that is in force keeps it from writing its log into the file.
                file.execute("SELECT 1").close()
                file.rollback()
            except sqlite3.Error:
                pass  # closing rolls back, too
            finally:
                with suppress(sqlite3.Error):
                    file.close()
        return _STOP


def _nothing() -> None:
    """Do nothing, after everything that came before."""


def _work(queue: _Queue) -> None:
    """Do what the queue says, until it says stop."""
    while True:
        future, function = queue.get()
        try:
            result = function()
        except BaseException as error:  # it is raised where somebody awaits it
            _tell(future, _set_exception, error)
        else:
            _tell(future, _set_result, result)
            if result is _STOP:
                return
            del result
        del future, function  # nothing is kept alive by a thread that waits


def _tell(
    future: asyncio.Future[Any] | None, tell: Callable[[asyncio.Future[Any], Any], None], what: Any
) -> None:
    if future is not None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            future.get_loop().call_soon_threadsafe(tell, future, what)


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _explained(error: sqlite3.OperationalError) -> sqlite3.OperationalError:
    explained: Any = sqlite3.OperationalError(
        f"{error}: somebody else has written, or is about to, since this transaction began to "
        "read. It would be begun anew with the write lock, but a stream of it is still being read. "
        "Use transaction(), which takes the write lock first, or read the stream to its end before "
        "you write"
    )
    explained.sqlite_errorcode = error.sqlite_errorcode
    explained.sqlite_errorname = error.sqlite_errorname
    return explained  # type: ignore[no-any-return]
