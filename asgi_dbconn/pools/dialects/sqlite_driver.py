"""Statements on one connection to SQLite: execute them in its thread, interrupt them, clean up.

A statement whose task was cancelled goes on in the thread. The connection waits for it, and
interrupts it if it takes long. An interrupt hits every statement until the last unfinished cursor
is closed, the ROLLBACK too.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, TypeVar
from weakref import ref

from asgi_dbconn.errors import TransactionAborted
from asgi_dbconn.pools.dialects.sqlite_connection import TrackedConnection, TrackedCursor
from asgi_dbconn.pools.dialects.sqlite_statements import Kind, kind_of
from asgi_dbconn.pools.dialects.sqlite_thread import ThreadedConnection
from asgi_dbconn.pools.dialects.sqlite_transaction import (
    BeginOptions,
    SQLiteTransaction,
    explain_refused_restart,
    is_busy,
)

__all__ = ["DriverConnection", "Outcome"]

T = TypeVar("T")

_INTERRUPT_READ_AFTER: Final = 0.01
"""Seconds after which a statement that reads is interrupted; SQLite loses nothing else with it."""
_INTERRUPT_WRITE_AFTER: Final = 0.1
"""The same for one that may write: SQLite rolls its whole transaction back."""
_REPEAT_INTERRUPT_AFTER: Final = 0.05
"""Seconds between two interrupts; one that comes before its statement is ignored."""
_LOCK_WAIT_LIMIT: Final = 0.4
"""Seconds to wait for a statement that waits for a lock: no interrupt reaches it."""
_PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.025, 0.025, 0.05, 0.05, 0.1)
"""Seconds between two attempts to get the write lock; SQLite's own."""


class Outcome:
    """The result of one statement, by the names that a cursor has for it."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount", "rows")

    def __init__(self) -> None:
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1
        self.rows: deque[Any] = deque()


class DriverConnection(ThreadedConnection):
    """The driver's connection below SQLAlchemy's adapted one."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        super().__init__(connect, iter_chunk_size)
        self.transaction = SQLiteTransaction()
        self.interrupt_after = _INTERRUPT_WRITE_AFTER
        """Seconds for which a statement that may write is not interrupted."""
        self.is_autocommit = False
        """True if SQLAlchemy was asked for the isolation level AUTOCOMMIT."""
        self.is_query_only = False
        """True if its transaction may not write."""
        self._kind = Kind.WRITES
        self._is_waiting_over = threading.Event()
        self._busy_timeout: int | None = None

    @classmethod
    def to(cls, database: Any, *, iter_chunk_size: int = 64, **arguments: Any) -> DriverConnection:
        """Return a connection that opens the file ``database`` when it is awaited."""
        arguments.setdefault("factory", TrackedConnection)
        return cls(partial(sqlite3.connect, database, **arguments), iter_chunk_size)

    async def perform(
        self, outcome: Outcome, statement: str, parameters: Any, *, many: bool
    ) -> None:
        """Execute ``statement``, and read all of its rows with it: no cursor stays open."""
        kind = kind_of(statement)
        await self._execute_kind(kind, self._perform, outcome, kind, statement, parameters, many)

    async def open_cursor(
        self, statement: str, parameters: Any, keep: Callable[[sqlite3.Cursor], None]
    ) -> None:
        """Execute ``statement``; its rows are fetched later, from the cursor passed to ``keep``.

        ``keep`` is called in the thread, so that a cancelled task has the cursor to close, too.
        """
        kind = kind_of(statement)
        await self._execute_kind(kind, self._open_cursor, kind, statement, parameters, keep)

    async def fetch(self, kind: Kind, cursor: Any, fetch: Callable[[], T]) -> T:
        """Return the rows that ``fetch`` reads from a cursor of :meth:`open_cursor`."""
        return await self._execute_kind(kind, self._fetch, cursor, fetch)

    async def begin_transaction(self, options: BeginOptions, left: Iterable[str]) -> None:
        """Begin a transaction. The statements ``left`` end one whose BEGIN was cancelled."""
        await self._execute_kind(Kind.CONTROLS, self._begin_transaction, options, left)

    async def end_transaction(self, statements: Iterable[str]) -> None:
        """Commit or roll back, by ``statements``.

        Raises TransactionAborted instead of a commit if SQLite has rolled back by itself.
        """
        await self._execute_kind(Kind.WRITES, self._end_transaction, statements)

    async def wait_or_interrupt(self, limit: float) -> bool:
        """Wait until the thread is idle; interrupt a statement that takes long.

        Return False if that takes more than ``limit`` seconds, or if the connection is closed.
        """
        if not self.is_open:
            return False
        return await self._hurry(self.wait_idle(), limit)

    async def stop_statement(self, free: Awaitable[None], limit: float) -> bool:
        """Do the same for the statement of another task, which has ended when ``free`` is done."""
        waiting = asyncio.ensure_future(free)
        try:
            return await self._hurry(waiting, limit)
        finally:
            if not waiting.done():
                waiting.cancel()

    async def put_in_order(self, limit: float) -> bool:
        """Roll back what was left on it. Return False if it has to be closed."""
        if not await self.wait_or_interrupt(limit):
            return False
        try:
            await self.submit(self._put_in_order)
        except (ValueError, sqlite3.Error):
            return False
        return True

    async def finish(self, limit: float) -> None:
        """Interrupt the statement under way, roll back, and close the file."""
        await self.wait_or_interrupt(limit)
        await self.close()

    def interrupt_now(self) -> None:
        self._is_waiting_over.set()
        super().interrupt_now()

    async def _execute(self, fn: Callable[..., T], *arguments: Any, **named: Any) -> T:
        # Called by all of aiosqlite's own methods.
        self._busy_timeout = None
        work: Callable[[], T] = partial(fn, *arguments, **named)
        return await self._execute_kind(Kind.WRITES, partial(self._do, work))

    async def _execute_kind(self, kind: Kind, function: Callable[..., T], *arguments: Any) -> T:
        self._kind = kind
        return await self.submit(function, *arguments)

    async def _hurry(self, ended: asyncio.Future[Any], limit: float) -> bool:
        clock = asyncio.get_running_loop().time
        begun_at = clock()
        interrupt_after = (
            _INTERRUPT_READ_AFTER if self._kind is Kind.READS else self.interrupt_after
        )
        if self._kind is Kind.WRITES and self.transaction.may_wait_for_lock:
            limit = min(limit, interrupt_after + _LOCK_WAIT_LIMIT)
        self._is_waiting_over.set()
        await asyncio.wait({ended}, timeout=min(interrupt_after, limit))
        if ended.done():
            return self.is_open
        while not ended.done():
            left = begun_at + limit - clock()
            if left <= 0:
                return False
            self.interrupt_now()
            await asyncio.wait({ended}, timeout=min(left, _REPEAT_INTERRUPT_AFTER))
        try:
            await self.submit(self._recover)
        except (ValueError, sqlite3.Error):
            return False
        return True

    # What follows is executed in the thread.

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
        # Not a tracked one: it is closed below.
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

    def _begin_transaction(self, options: BeginOptions, left: Iterable[str]) -> None:
        transaction, file = self.transaction, self._conn
        if transaction.is_begun:
            self._end_transaction(left)
        if not transaction.is_permanent:
            # An unfinished cursor from before would hold the new transaction to an old snapshot,
            # and keep it from writing.
            self._close_cursors()
        if options.statement == "BEGIN IMMEDIATE":
            self._begin_immediate(file)
        elif options.statement is not None:
            file.execute(options.statement)
        transaction.begin(options)
        if options.readonly:
            self.is_query_only = True
            file.execute("PRAGMA query_only=ON")

    def _run(
        self, kind: Kind, execute: Callable[..., Any], statement: str, parameters: Any
    ) -> None:
        transaction, file = self.transaction, self._conn
        transaction.check(file, statement)
        if transaction.needs_lock(kind, statement) and not self._unfinished:
            self._restart(file)
        try:
            execute(statement, parameters)
        except sqlite3.OperationalError as error:
            if not transaction.needs_restart(error, kind):
                raise
            if self._unfinished:
                raise explain_refused_restart(error) from None
            self._restart(file)
            execute(statement, parameters)
        transaction.note_success(kind, statement)
        if statement[:6].upper() == "PRAGMA":
            self._busy_timeout = None  # it may have set it

    def _restart(self, file: sqlite3.Connection) -> None:
        """Begin anew, with the write lock, a transaction that has only read."""
        transaction = self.transaction
        file.rollback()
        try:
            self._begin_immediate(file)
        except sqlite3.OperationalError:
            file.execute("BEGIN DEFERRED")
            self._set_savepoints(file)
            raise
        transaction.can_restart = False
        self._set_savepoints(file)

    def _set_savepoints(self, file: sqlite3.Connection) -> None:
        for name in self.transaction.savepoints:
            file.execute(f"SAVEPOINT {name}")

    def _begin_immediate(self, file: sqlite3.Connection) -> None:
        """Wait for the write lock as SQLite would, but let :meth:`interrupt_now` end the wait."""
        execute = partial(sqlite3.Connection.execute, file)
        busy_timeout = self._busy_timeout
        if busy_timeout is None:
            (busy_timeout,) = execute("PRAGMA busy_timeout").fetchone()
            self._busy_timeout = busy_timeout
        self._is_waiting_over.clear()
        deadline = time.monotonic() + busy_timeout / 1000
        execute("PRAGMA busy_timeout=0")
        try:
            for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
                try:
                    execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    left = deadline - time.monotonic()
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
            transaction.check(file, "COMMIT")  # SQLAlchemy then rolls back before anything else
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

    def _put_in_order(self) -> None:
        self._recover()
        if not self.transaction.is_permanent:
            self._conn.rollback()
        self.transaction.end()
        self._allow_writes(self._conn)
