"""One database: connect, disconnect, scopes, queries; with a pool for each event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, fields
from functools import partial
from typing import Any, Final, Self, TypeVar, Unpack

from sqlalchemy.engine import URL, Connection
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from asgi_dbconn.call_site import CallSite, find_blamed_line, find_call_site
from asgi_dbconn.databases.blocks import Block
from asgi_dbconn.databases.isolation import IsolationManager
from asgi_dbconn.databases.loop_pools import LoopPools
from asgi_dbconn.databases.reference_count import (
    Perform,
    ReferenceCount,
    State,
    Wait,
    copy_error,
    wait_outcome,
)
from asgi_dbconn.databases.scope_manager import ScopeManager
from asgi_dbconn.databases.scopes import current_scope
from asgi_dbconn.databases.startup import select_one, verify_once, verify_with_retries
from asgi_dbconn.databases.transactions import Transaction, TransactionOptions
from asgi_dbconn.databases.transient_engines import TransientEngines
from asgi_dbconn.errors import DBConnError, PoolClosed, UnsupportedURL
from asgi_dbconn.loops.fork import after_fork
from asgi_dbconn.options import DatabaseOptions, OptionArguments, hide_password
from asgi_dbconn.pools.dialects.sqlite import MemoryKeeper, memory_url
from asgi_dbconn.pools.loop_pool import LoopPool
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statistics import DrainReport, PoolStats
from asgi_dbconn.urls import MASK, DatabaseURL, parse_url

__all__ = ["Database", "dedicated"]

T = TypeVar("T")
_log = logging.getLogger("asgi_dbconn")


_DEFAULT_NAME: Final = "default"


class Database:
    """One database, connected between the first ``connect()`` and the last ``disconnect()``.

    These are counted over the whole process.

    Making one opens nothing and needs no event loop. Every method may be called from any task,
    thread and loop; each loop gets a pool of its own, and a loop that ends takes its pool along.
    """

    def __init__(
        self,
        url: str | URL | DatabaseURL,
        *,
        name: str | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        # An error from here on must not find a secret in our local variables.
        parsed, url = parse_url(url), MASK
        options = hide_password(options)
        if isinstance(parsed, UnsupportedURL):
            raise parsed
        self.name = name
        self.url = parsed
        self.options = DatabaseOptions.check(options)
        address = memory_url(parsed) if parsed.is_memory else parsed
        self._config = PoolConfig(name or _DEFAULT_NAME, parsed, address, self.options)
        self._keeper = MemoryKeeper(address) if parsed.is_memory else None
        self._lock = threading.Lock()
        self._references = ReferenceCount()
        self._pools = LoopPools(self._config)
        self._transient = TransientEngines(self._config)
        self._test_isolations = IsolationManager(self._config)
        self._scopes = ScopeManager(
            self, self._config.name, lambda: self._test_isolations.cross_loop
        )
        self._drain_task: asyncio.Task[DrainReport] | None = None
        after_fork(self._after_fork)

    @property
    def is_connected(self) -> bool:
        """True if queries find a pool: on every loop as soon as on one."""
        return self._references.state is State.OPEN

    @property
    def is_isolated(self) -> bool:
        """True if a test rolls everything back; see :meth:`force_rollback`."""
        return self._test_isolations.current is not None

    @property
    def home_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it was connected on, while it has a pool there; ``run_sync`` goes there."""
        cross_loop = self._test_isolations.cross_loop
        return self._pools.home_loop if cross_loop is None else cross_loop.loop

    # -- connecting and disconnecting

    async def connect(self) -> None:
        """Acquire a reference to the database; the first one opens it.

        Verifies that the server answers; retries transient errors until ``startup_timeout``.
        Concurrent callers share one outcome. Raises DatabaseUnavailable, and then holds nothing.
        An ``optional`` database is asked once and may follow later; until then its queries raise.
        """
        while True:
            with self._lock:
                step = self._references.acquire()
            match step:
                case None:
                    self._pools.sweep()
                    return
                case Perform():
                    await self._open()
                    return
                case Wait(outcome):
                    error = await wait_outcome(outcome)
                    if error is not None:
                        raise copy_error(error)

    async def disconnect(self, *, force: bool = False) -> DrainReport | None:
        """Release a reference; the last one (or ``force``) closes the database. Return its report.

        New work is refused with PoolClosed, queries in flight get ``shutdown_timeout`` seconds,
        then they are cancelled on the server. Returns within ``shutdown_timeout`` + 2.5 seconds.
        Surplus calls do nothing and return None. Cancelled, it goes on in the background.
        """
        while True:
            with self._lock:
                step = self._references.release(force=force)
            match step:
                case None:
                    return None
                case Perform():
                    self._drain_task = asyncio.create_task(
                        self._pools.drain_all(), name=f"disconnecting {self._config.name}"
                    )
                    # Not in the task itself: one that is cancelled before its first step never
                    # runs, not even its `finally`, and no task could connect or disconnect again.
                    self._drain_task.add_done_callback(self._note_closed)
                    return await asyncio.shield(self._drain_task)
                case Wait(outcome):
                    await wait_outcome(outcome)

    def release_from_closed_loop(self) -> None:
        """Release the reference of an event loop that was closed. From any thread.

        The last one closes the database. Its pools on other loops are drained in the background.
        """
        with self._lock:
            step = self._references.release(force=False)
        try:
            self._pools.sweep()  # which warns, and warnings may be errors
        finally:
            if isinstance(step, Perform):
                self._close_without_loop()

    def _close_without_loop(self) -> None:
        self._pools.abort_all()
        if self._keeper is not None:
            self._keeper.close()
        with self._lock:
            outcome = self._references.note_closed()
        outcome.set_result(None)
        _log.info("database %s disconnected: its event loop was closed", self._config)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect()

    async def ping(self, *, call_site: CallSite | None = None) -> None:
        """Send one statement to the server and back. Raises what a query would."""
        await self.run(select_one, autocommit=True, call_site=call_site)

    def stats(self) -> PoolStats:
        """Return a snapshot of the pools of all loops, and all counts since the process began."""
        transient = self._transient
        counted = PoolStats(**asdict(transient.counters), transient_uses=transient.uses)
        return self._pools.stats() + self._test_isolations.stats() + counted

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` for every event from now on; return how to stop. For any thread."""
        return self._config.observers.add(observer)

    async def refresh(self) -> None:
        """Replace every connection, on every loop, without disturbing those in use.

        For a server that has moved, or credentials that have changed. Raises what connecting does.
        """
        await self._pools.refresh_all()

    # -- using it

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for the running loop; valid until the database is disconnected.

        Raises PoolClosed if the database is not connected.
        """
        isolation = self._test_isolations.current
        if isolation is not None:
            return isolation.engine
        pool = self._pools.for_running_loop(self._references, self._lock)
        if pool is None:
            raise PoolClosed(
                f"Database {self._config} is not connected, so it has no engine. "
                "Enter `async with models:` or wrap the application with `models.asgi(app)`."
            )
        return pool.engine

    def connection(self) -> Block[AsyncConnection]:
        """Return a block with one connection, shared with the queries inside; committed at its end.

        May be entered again, each time anew, and decorates async functions.
        """
        return self._scopes.connection(partial(self._pool, self._call_site()))

    def session(self) -> Block[AsyncSession]:
        """Return a block with a plain ``AsyncSession``; committed at its end, rolled back on error.

        Inside another scope it joins that one: its commit flushes, its rollback takes the whole
        transaction back. Objects do not expire on commit. May be entered again, each time anew,
        and decorates async functions.
        """
        return self._scopes.session(partial(self._pool, self._call_site()))

    def transaction(
        self,
        *,
        isolation_level: IsolationLevel | None = None,
        readonly: bool = False,
        force_rollback: bool = False,
        call_site: CallSite | None = None,
    ) -> Block[Transaction]:
        """Return a block that takes effect as a whole, or not at all; a savepoint in another scope.

        With ``force_rollback`` it is always rolled back, and its ``on_commit`` callbacks are not
        called. SQLite: takes the write lock immediately unless ``readonly``. May be entered again,
        each time anew, and decorates async functions. ``call_site`` is the line to blame, if not
        this one.
        """
        pool = partial(self._pool, call_site or self._call_site())
        options = TransactionOptions(isolation_level, readonly, force_rollback)
        return self._scopes.transaction(pool, options)

    def verb_transaction(self) -> Block[Transaction]:
        """Return a transaction or savepoint for the statements of a single verb; for our own use.

        The clean end of a block around it waits for it, as for a statement.
        """
        options = TransactionOptions(is_of_verb=True)
        return self._scopes.transaction(partial(self._pool, self._call_site()), options)

    def force_rollback(self) -> AbstractAsyncContextManager[None]:
        """Return a block at whose end everything done with the database is rolled back; for a test.

        All share one connection, in any task and on any loop; every transaction is a savepoint, and
        so is every single query, so that code cannot tell the difference. Nested, it rolls back its
        own part. Connects the database for that time; may be left in another task. Scopes that are
        open already are not a part of it; inside one of them it raises TransactionError.
        """
        return self._test_isolations.block(self)

    async def run(
        self,
        work: Callable[[Connection], T],
        *,
        autocommit: bool,
        call_site: CallSite | None = None,
    ) -> T:
        """Run synchronous ``work`` on a connection, in a greenlet in which it can await.

        In the open scope, or on a pooled connection of its own, committed at the end: with
        ``autocommit`` each statement by itself, in one round trip if the driver can.
        ``call_site`` is the line to blame if no line awaits this.
        """
        scope = current_scope(self)
        if scope is not None:
            return await scope.run(work)
        isolation = self._test_isolations.current  # of a test that rolls everything back
        if isolation is not None:
            return await isolation.run(work, autocommit=autocommit)
        pool = self._pools.for_running_loop(self._references, self._lock)
        if pool is not None:
            return await pool.run(work, autocommit=autocommit)
        async with self._transient.pool(find_blamed_line(call_site)) as pool:
            return await pool.run(work, autocommit=autocommit)

    # -- inside

    def _call_site(self) -> CallSite | None:
        # Only the warning needs the stack.
        return None if self.is_connected else find_call_site()

    def _pool(self, call_site: CallSite | None) -> LoopPool | AbstractAsyncContextManager[LoopPool]:
        isolation = self._test_isolations.current
        if isolation is not None:
            return isolation.pool()
        pool = self._pools.for_running_loop(self._references, self._lock)
        return self._transient.pool(find_blamed_line(call_site)) if pool is None else pool

    async def _open(self) -> None:
        try:
            if self._keeper is not None:
                self._keeper.open()
            if self.options.optional:
                await self._pools.open_or_retry(verify_once)
            else:
                await self._pools.open_first(verify_with_retries)
        except BaseException as failure:
            if self._keeper is not None:
                self._keeper.close()
            with self._lock:
                outcome = self._references.note_failed()
            # Other errors, as a cancellation, are not shared: the next caller tries again.
            outcome.set_result(failure if isinstance(failure, DBConnError) else None)
            raise
        with self._lock:
            outcome = self._references.note_opened()
        _log.info("database %s connected", self._config)
        self._config.observers.notify(Observer.database_connected, self._config.name)
        outcome.set_result(None)

    def _note_closed(self, closing: asyncio.Task[DrainReport]) -> None:
        try:
            self._pools.abort_remaining()
            if self._keeper is not None:
                self._keeper.close()
        finally:  # or no task could connect or disconnect again
            with self._lock:
                outcome = self._references.note_closed()
            self._drain_task = None
            outcome.set_result(None)
        if closing.cancelled() or closing.exception() is not None:
            _log.warning("database %s disconnected, but not in good order", self._config)
        else:
            report = closing.result()
            level = logging.WARNING if report.cancelled or report.cut else logging.INFO
            _log.log(level, "database %s disconnected: %s", self._config, report)
            self._config.observers.notify(Observer.database_disconnected, self._config.name, report)

    def _after_fork(self) -> None:
        # The reference count is inherited, the pools are the parent's. A lock that another of
        # its threads held at that moment would stay locked here for ever.
        self._lock = threading.Lock()
        self._references.after_fork()
        self._pools.abandon_after_fork()
        self._test_isolations.after_fork()
        self._config.budget.after_fork()
        self._transient = TransientEngines(self._config)
        self._drain_task = None

    def __repr__(self) -> str:
        if not hasattr(self, "_scopes"):
            return "<Database, unfinished>"  # __init__ raised; an error reporter asks
        with self._lock:
            state, count = self._references.state, self._references.count
        return (
            f"<Database {self._config.name!r} {self.url} "
            f"[{state.value} | references: {count} | loops: {len(self._pools)}]>"
        )


def dedicated(database: Database, **options: Unpack[OptionArguments]) -> Database:
    """Return a Database with one connection of its own to the same URL.

    It has the options of ``database`` but for ``options``. No other task waits for it: it is not
    counted by ``max_connections``. ``optional`` does not hide that it failed.
    """
    chosen: dict[str, Any] = {
        field.name: getattr(database.options, field.name) for field in fields(database.options)
    }
    chosen |= {"pool_size": 1, "max_waiting": None, "max_connections": None}
    chosen |= {"leak_after": None, "optional": False, **options}
    return Database(database.url, name=database.name, **chosen)
