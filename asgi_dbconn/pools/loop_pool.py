"""The pool of one database on one event loop: its engine, gate and open connections.

The engine is made here with all that a connection passes through: gate, liveness check, check-in,
connector, and the translation of errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asgi_dbconn.loops.greenlets import spawn
from asgi_dbconn.pools import (
    aborted_transactions,
    connection_closer,
    error_translation,
    pooled_connection,
    undo_log,
)
from asgi_dbconn.pools.check_in import CheckIn
from asgi_dbconn.pools.connection_closer import ConnectionCloser, begin_discard
from asgi_dbconn.pools.connector import Connector
from asgi_dbconn.pools.dialects.profile import DialectProfile
from asgi_dbconn.pools.drain import drain
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.gated_pool import GatedPool
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.pooled_connection import acquire_connection
from asgi_dbconn.pools.statement_lock import driver_of
from asgi_dbconn.pools.statistics import Counters, DrainReport, PoolStats

__all__ = ["LoopPool", "make_engine"]

T = TypeVar("T")


def make_engine(
    config: PoolConfig,
    gate: Gate,
    events: Events,
    liveness: Liveness,
    connector: Connector,
    closer: ConnectionCloser,
) -> AsyncEngine:
    """Make an engine whose every connection passes ``gate``. Opens nothing."""
    echo = config.options.echo
    arguments: dict[str, Any] = {
        # Parameters are users' data: logs show them only if the options ask for that.
        "hide_parameters": echo != "debug",
        **config.options.engine_options,
        "echo": echo,
        "poolclass": GatedPool,
        "gate": gate,
        "liveness": liveness,
        "closer": closer,
        "check_in": CheckIn(config, events),
        "leak_after": config.options.leak_after,
    }
    engine = create_async_engine(config.address.without_password(), **arguments)
    event.listen(engine.sync_engine, "do_connect", connector)
    # Before all other listeners for a new connection: they may use it.
    event.listen(engine.sync_engine.pool, "connect", _adapt(config), insert=True)
    pooled_connection.install(engine.sync_engine)
    config.profile.install(engine.sync_engine, config.options)
    undo_log.install(engine.sync_engine)
    aborted_transactions.install(engine.sync_engine)
    error_translation.translate_lost_connections(engine.sync_engine, config, gate.events)
    connection_closer.install(engine.sync_engine, gate, closer)
    error_translation.translate_interruptions(engine.sync_engine, config, gate, closer)
    error_translation.translate_refusals(engine.sync_engine)
    return engine


def _adapt(config: PoolConfig) -> Any:
    def adapt(connection: Any, _: Any) -> None:
        config.profile.adapt(connection)

    return adapt


_NO_OPTIONS: Final[Mapping[str, Any]] = {}


class LoopPool:
    """A pool that lives from the first use on its loop until it is drained or the loop is gone.

    Belongs to the loop it was made on. Other threads may call the methods that say so, and
    :meth:`abort`.
    """

    def __init__(self, config: PoolConfig) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        options = config.options
        events = Events(config.name, config.observers)
        self.gate = Gate(
            config.name, options.pool_size, options.acquire_timeout, options.max_waiting, events
        )
        self._closer = ConnectionCloser(config)
        self._liveness = Liveness(config, events, self._closer)
        self._connector = Connector(config, events, self._closer)
        self.engine: AsyncEngine = make_engine(
            config, self.gate, events, self._liveness, self._connector, self._closer
        )
        # SQLAlchemy's pool does not list connections in use; a drain needs them. In the order of
        # their last use.
        self._opened: dict[Any, None] = {}
        event.listen(self.engine.sync_engine.pool, "connect", self._note_opened)
        if options.max_connections is not None:
            event.listen(self.engine.sync_engine.pool, "checkin", self._close_surplus)
        self._leave_budget = config.budget.join(self._request_slot)
        self._draining: asyncio.Task[DrainReport] | None = None
        self._when_drained: Callable[[], None] | None = None
        self.ended: Future[DrainReport] = Future()
        """The report, set when no connection is open any more, for any reason; for any thread."""

    async def run(self, work: Callable[[Connection], T], *, autocommit: bool) -> T:
        """Run ``work`` on a pooled connection, in one greenlet, and commit it.

        With ``autocommit`` every statement is committed by itself, in one round trip if the
        driver has autocommit.
        """
        profile, engine = self.config.profile, self.engine.sync_engine
        # By a flag of the driver if it has one, else by execution options.
        if autocommit and profile.has_autocommit:
            return await spawn(partial(_run_in_autocommit, engine, profile, work))
        options = profile.autocommit_options if autocommit else _NO_OPTIONS
        return await spawn(partial(_run_and_commit, engine, options, work))

    def discard(self, connection: Any) -> None:
        """Close an adapted connection in the background, and cancel its statement."""
        begin_discard(driver_of(connection), self.gate, self._closer)

    @property
    def counters(self) -> Counters:
        """The counters of this pool; still there when it has ended."""
        return self.gate.events.counters

    def stats(self) -> PoolStats:
        """Return the state of this pool. From any thread; the numbers are then a moment apart."""
        gate = self.gate
        return PoolStats(
            loops=1,
            size=gate.size,
            in_use=gate.in_use,
            idle=max(len(self._open_connections()) - gate.in_use, 0),
            waiting=gate.queue_length,
        )

    def mark_outdated(self) -> None:
        """Replace every connection before its next use. From any thread."""
        self._liveness.generation += 1

    async def replace_idle(self) -> None:
        """Replace the outdated connections that are idle now."""
        pool = self.engine.sync_engine.pool
        idle = pool.checkedin() if isinstance(pool, GatedPool) else 0
        # At the same time, or the pool would return the connection that was just replaced.
        await asyncio.gather(*(self._replace_one() for _ in range(idle)))

    async def _replace_one(self) -> None:
        async with self.engine.connect():
            pass  # the acquire has replaced it

    async def drain(self, grace: float) -> DrainReport:
        """Refuse new work and end everything within ``grace`` seconds plus two and a quarter.

        Drains once, however often it is called: the end of the loop and a disconnect may coincide.
        A caller that is cancelled leaves the drain running.
        """
        return await asyncio.shield(self.begin_drain(grace))

    def on_drained(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the pool's loop when a drain has ended."""
        self._when_drained = listener

    def begin_drain(self, grace: float) -> asyncio.Task[DrainReport]:
        """Begin to :meth:`drain` without waiting for it; :attr:`ended` tells its end, too."""
        if self._draining is None:
            self._draining = asyncio.create_task(
                self._drain(grace),
                name=f"draining {self.config.name}",
            )
            self._draining.add_done_callback(self._finish_drain)
        return self._draining

    def abort(self) -> DrainReport:
        """Abort all connections, from any thread; for a loop that does not run any more."""
        self.gate.is_closed = True
        connections = self._open_connections()
        for connection in connections:
            self.config.profile.abort(connection)
        report = DrainReport(cut=len(connections))
        self._finish(report)
        return report

    async def _drain(self, grace: float) -> DrainReport:
        self.gate.close()
        await self._connector.wait_done()  # attempts whose acquire was cancelled
        report = await drain(
            self.gate,
            grace,
            connections=self._usable_connections,
            end=self.config.profile.close,
            terminate=self.config.profile.terminate,
        )
        await self._closer.wait_closed()
        await self._connector.wait_done()
        return report

    def _finish_drain(self, draining: asyncio.Task[DrainReport]) -> None:
        # A task that is cancelled before its first step never runs, not even its `finally`.
        left = self._open_connections()
        for connection in left:
            self.config.profile.terminate(connection)
        report = DrainReport(cut=len(left))
        if not draining.cancelled() and draining.exception() is None:
            report += draining.result()
        self._finish(report)
        if self._when_drained is not None:
            self._when_drained()

    def _finish(self, report: DrainReport) -> None:
        self._leave_budget()
        self._connector.note_closed()
        with suppress(InvalidStateError):  # drained and aborted at the same time: one came first
            self.ended.set_result(report)

    def _note_opened(self, connection: Any, _: Any) -> None:
        # Ask the driver again: a close that hangs is reported before it has happened.
        self._opened = dict.fromkeys(self._open_connections())
        self._opened[driver_of(connection)] = None

    def _request_slot(self) -> None:
        # From any thread: a task on another loop waits for a slot (max_connections).
        with suppress(RuntimeError):  # this loop was closed a moment ago
            self.loop.call_soon_threadsafe(self._close_idle)

    def _close_idle(self) -> None:
        used = {permit.connection for permit in self.gate.holders()}
        for connection in self._usable_connections():
            if connection not in used and self.config.budget.should_close_one(from_busy_loop=False):
                self._closer.close_in_background(connection)

    def _close_surplus(self, connection: Any, _: Any) -> None:
        # At check-in.
        if connection is None:
            return  # it was invalidated, and has ended
        driver = driver_of(connection)
        self._opened.pop(driver, None)
        self._opened[driver] = None
        if self.config.budget.should_close_one(from_busy_loop=self.gate.queue_length > 0):
            self._closer.close_in_background(driver)

    def _usable_connections(self) -> list[Any]:
        return [
            connection
            for connection in self._open_connections()
            if not self._closer.was_closed_by_us(connection)
        ]

    def _open_connections(self) -> list[Any]:
        return [
            connection for connection in self._opened if self.config.profile.is_open(connection)
        ]


def _run_and_commit(
    engine: Engine, options: Mapping[str, Any], work: Callable[[Connection], T]
) -> T:
    with acquire_connection(engine) as connection:
        if options:
            connection.execution_options(**options)
        with connection.begin():
            return work(connection)


def _run_in_autocommit(
    engine: Engine, profile: DialectProfile, work: Callable[[Connection], T]
) -> T:
    """Run the work with a driver that commits each statement, without a BEGIN."""
    # A flag of the driver's, set for this work only. As an option of the connection or of a view
    # of the engine it would cost a tenth of a short query, and a transaction object as much again.
    with acquire_connection(engine) as connection:
        adapted: Any = getattr(connection, "_dbapi_connection").dbapi_connection  # noqa: B009
        level = adapted.begin_autocommit()
        try:
            return work(connection)
        except DBAPIError as error:
            if not profile.is_stale_plan(error):
                raise
            # The server refused it before it ran, and SQLAlchemy prepares it anew.
            return work(connection)
        finally:
            adapted.end_autocommit(level)
