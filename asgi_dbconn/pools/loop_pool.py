"""All that one database has on one event loop: an engine, its gate, its open connections."""

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
from asgi_dbconn.pools.connection_closer import Goodbyes, begin_to_part
from asgi_dbconn.pools.connector import Opener
from asgi_dbconn.pools.dialects.profile import DialectProfile
from asgi_dbconn.pools.drain import drain
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.gated_pool import GatedPool
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.pooled_connection import connect
from asgi_dbconn.pools.statement_lock import driver_of
from asgi_dbconn.pools.statistics import Counters, DrainReport, PoolStats

__all__ = ["LoopPool", "make_engine"]

T = TypeVar("T")


def make_engine(
    target: Target,
    gate: Gate,
    events: Events,
    liveness: Liveness,
    opener: Opener,
    goodbyes: Goodbyes,
) -> AsyncEngine:
    """Make an engine whose every connection passes ``gate``. Opens nothing."""
    echo = target.options.echo
    arguments: dict[str, Any] = {
        # Parameters are the users' data; they appear in logs only where somebody asked for them.
        "hide_parameters": echo != "debug",
        **target.options.engine_options,
        "echo": echo,
        "poolclass": GatedPool,
        "gate": gate,
        "liveness": liveness,
        "goodbyes": goodbyes,
        "check_in": CheckIn(target, events),
        "leak_after": target.options.leak_after,
    }
    engine = create_async_engine(target.address.without_password(), **arguments)
    event.listen(engine.sync_engine, "do_connect", opener)
    # Before all others that are told of a new connection: they may use it.
    event.listen(engine.sync_engine.pool, "connect", _adapt(target), insert=True)
    pooled_connection.install(engine.sync_engine)
    target.profile.install(engine.sync_engine, target.options)
    undo_log.install(engine.sync_engine)
    aborted_transactions.install(engine.sync_engine)
    error_translation.translate_lost_connections(engine.sync_engine, target, gate.events)
    connection_closer.install(engine.sync_engine, gate, goodbyes)
    error_translation.translate_interruptions(engine.sync_engine, target, gate, goodbyes)
    error_translation.translate_refusals(engine.sync_engine)
    return engine


def _adapt(target: Target) -> Any:
    def adapt(connection: Any, _: Any) -> None:
        target.profile.adapt(connection)

    return adapt


_NO_OPTIONS: Final[Mapping[str, Any]] = {}


class LoopPool:
    """A pool that lives from the first use on its loop until it is drained or the loop is gone.

    Belongs to the loop it was made on; only :meth:`cut` may be called from elsewhere.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.loop = asyncio.get_running_loop()
        options = target.options
        events = Events(target.name, target.observers)
        self.gate = Gate(
            target.name, options.pool_size, options.acquire_timeout, options.max_waiting, events
        )
        self._goodbyes = Goodbyes(target)
        self._liveness = Liveness(target, events, self._goodbyes)
        self._opener = Opener(target, events, self._goodbyes)
        self.engine: AsyncEngine = make_engine(
            target, self.gate, events, self._liveness, self._opener, self._goodbyes
        )
        # SQLAlchemy's pool does not list what is checked out; ending a pool needs to know.
        # In the order of their last use.
        self._opened: dict[Any, None] = {}
        event.listen(self.engine.sync_engine.pool, "connect", self._note_opened)
        if options.max_connections is not None:
            event.listen(self.engine.sync_engine.pool, "checkin", self._share)
        self._leave_budget = target.budget.join(self._ask_for_one)
        self._draining: asyncio.Task[DrainReport] | None = None
        self._when_drained: Callable[[], None] | None = None
        self.ended: Future[DrainReport] = Future()
        """The report, set when nothing is open any more for whatever reason; for any thread."""

    async def run(self, work: Callable[[Connection], T], *, autocommit: bool) -> T:
        """Do ``work`` on a pooled connection, in one greenlet, and commit it.

        With ``autocommit`` every statement is committed by itself, in one round trip on asyncpg.
        """
        profile, engine = self.target.profile, self.engine.sync_engine
        if autocommit and profile.has_autocommit:
            return await spawn(partial(_one_by_one, engine, profile, work))
        options = profile.autocommit_options if autocommit else _NO_OPTIONS
        return await spawn(partial(_committed, engine, options, work))

    def give_up(self, connection: Any) -> None:
        """Close an adapted connection in the background, whatever is under way on it."""
        begin_to_part(driver_of(connection), self.gate, self._goodbyes)

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
            waiting=gate.waiting,
        )

    def outdate(self) -> None:
        """Let every connection be replaced before it is used again. From any thread."""
        self._liveness.generation += 1

    async def renew(self) -> None:
        """Replace the outdated connections that are idle now."""
        pool = self.engine.sync_engine.pool
        idle = pool.checkedin() if isinstance(pool, GatedPool) else 0
        # At the same time, or the pool would hand out the connection renewed a moment ago again.
        await asyncio.gather(*(self._renew_one() for _ in range(idle)))

    async def _renew_one(self) -> None:
        async with self.engine.connect():
            pass  # that it was handed out is all

    async def drain(self, grace: float) -> DrainReport:
        """Refuse new work and end everything within ``grace`` seconds plus two and a quarter.

        Drains once, however many ask for it: the end of the loop and a disconnect may coincide.
        A caller that is cancelled leaves the drain running.
        """
        return await asyncio.shield(self.begin_drain(grace))

    def when_drained(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the pool's loop when a drain has ended."""
        self._when_drained = listener

    def begin_drain(self, grace: float) -> asyncio.Task[DrainReport]:
        """Begin to :meth:`drain` without waiting for it; :attr:`ended` tells its end, too."""
        if self._draining is None:
            self._draining = asyncio.create_task(
                self._drain(grace),
                name=f"draining {self.target.name}",
            )
            self._draining.add_done_callback(self._drained)
        return self._draining

    def cut(self) -> DrainReport:
        """End everything immediately, from any thread; for a loop that does not run any more."""
        self.gate.is_closed = True
        connections = self._open_connections()
        for connection in connections:
            self.target.profile.cut(connection)
        report = DrainReport(cut=len(connections))
        self._finish(report)
        return report

    async def _drain(self, grace: float) -> DrainReport:
        self.gate.close()
        await self._opener.settle()  # what nobody waits for is not waited for
        report = await drain(
            self.gate,
            grace,
            connections=self._staying_connections,
            end=self.target.profile.end,
            terminate=self.target.profile.terminate,
        )
        await self._goodbyes.settle()
        await self._opener.settle()
        return report

    def _drained(self, draining: asyncio.Task[DrainReport]) -> None:
        # A task that is cancelled before its first step never runs, not even its `finally`.
        left = self._open_connections()
        for connection in left:
            self.target.profile.terminate(connection)
        report = DrainReport(cut=len(left))
        if not draining.cancelled() and draining.exception() is None:
            report += draining.result()
        self._finish(report)
        if self._when_drained is not None:
            self._when_drained()

    def _finish(self, report: DrainReport) -> None:
        self._leave_budget()
        self._opener.ended()
        with suppress(InvalidStateError):  # drained and cut at once: one of them came first
            self.ended.set_result(report)

    def _note_opened(self, connection: Any, _: Any) -> None:
        # Asked for rather than noted: a close that hangs is announced before it has happened.
        self._opened = dict.fromkeys(self._open_connections())
        self._opened[driver_of(connection)] = None

    def _ask_for_one(self) -> None:
        # From any thread: another loop of the process lacks a connection (max_connections).
        with suppress(RuntimeError):  # this loop was closed a moment ago
            self.loop.call_soon_threadsafe(self._give_up_idle)

    def _give_up_idle(self) -> None:
        used = {permit.connection for permit in self.gate.holders()}
        for connection in self._staying_connections():
            if connection not in used and self.target.budget.wants_one(from_busy_loop=False):
                self._goodbyes.say(connection)

    def _share(self, connection: Any, _: Any) -> None:
        # At check-in.
        if connection is None:
            return  # it was invalidated, and has ended anyway
        driver = driver_of(connection)
        self._opened.pop(driver, None)
        self._opened[driver] = None
        if self.target.budget.wants_one(from_busy_loop=self.gate.waiting > 0):
            self._goodbyes.say(driver)

    def _staying_connections(self) -> list[Any]:
        return [
            connection
            for connection in self._open_connections()
            if not self._goodbyes.was_said(connection)
        ]

    def _open_connections(self) -> list[Any]:
        return [
            connection for connection in self._opened if self.target.profile.is_open(connection)
        ]


def _committed(engine: Engine, options: Mapping[str, Any], work: Callable[[Connection], T]) -> T:
    with connect(engine) as connection:
        if options:
            connection.execution_options(**options)
        with connection.begin():
            return work(connection)


def _one_by_one(engine: Engine, profile: DialectProfile, work: Callable[[Connection], T]) -> T:
    # A flag of the driver's, set for this work only. As an option of the connection or of a view
    # of the engine it would cost a tenth of a short query, and a transaction object as much again.
    with connect(engine) as connection:
        adapted: Any = getattr(connection, "_dbapi_connection").dbapi_connection  # noqa: B009
        level = adapted.begin_autocommit()
        try:
            return work(connection)
        except DBAPIError as error:
            if not profile.is_stale_plan(error):
                raise
            # The server has refused it before it ran, and SQLAlchemy prepares it anew.
            return work(connection)
        finally:
            adapted.end_autocommit(level)
