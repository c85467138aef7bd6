"""All that one database has on one event loop: an engine, its gate, its open connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from asgi_dbconn.pools.drain import DrainReport, drain
from asgi_dbconn.pools.engine import make_engine
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.gated import GatedPool
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.opening import Opener
from asgi_dbconn.pools.statistics import Counters, PoolStats
from asgi_dbconn.pools.target import Target

__all__ = ["LoopPool"]

T = TypeVar("T")


class LoopPool:
    """Lives from the first use on its loop until it is drained or its loop is gone.

    Belongs to the loop it was made on; only :meth:`cut` may be called from elsewhere.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.loop = asyncio.get_running_loop()
        options = target.options
        self.gate = Gate(
            target.name, options.pool_size, options.acquire_timeout, options.max_waiting
        )
        self._liveness = Liveness(target, self.gate.counters)
        self._opener = Opener(target, self.gate.counters)
        self.engine: AsyncEngine = make_engine(target, self.gate, self._liveness, self._opener)
        self.autocommit_engine: Engine = self.engine.sync_engine.execution_options(
            **target.profile.autocommit_options
        )
        # SQLAlchemy's pool does not list what is checked out; ending a pool needs to know.
        self._opened: list[Any] = []
        event.listen(self.engine.sync_engine.pool, "connect", self._note_opened)
        self._draining: asyncio.Task[DrainReport] | None = None
        self._when_drained: Callable[[], None] | None = None
        self.ended: Future[DrainReport] = Future()
        """Set when nothing is open any more, whoever brought that about; for any thread."""

    async def run(self, work: Callable[[Connection], T], *, autocommit: bool) -> T:
        """Do ``work`` on a pooled connection, in one greenlet, and commit it.

        With ``autocommit`` every statement is committed by itself, in one round trip on asyncpg.
        """
        engine = self.autocommit_engine if autocommit else self.engine.sync_engine
        return await greenlet_spawn(_committed, engine, work)

    @property
    def counters(self) -> Counters:
        """What this pool has counted; still there when it has ended."""
        return self.gate.counters

    def stats(self) -> PoolStats:
        """This pool now. May be called from any thread; the numbers are then a moment apart."""
        gate = self.gate
        return PoolStats(
            loops=1,
            size=gate.size,
            in_use=gate.in_use,
            idle=max(len(self._open_connections()) - gate.in_use, 0),
            waiting=gate.waiting,
        )

    async def refresh(self) -> None:
        """Replace every connection: idle ones now, those in use when they are next asked for."""
        self._liveness.generation += 1
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
        """Like :meth:`drain`, without waiting for it; its end is told by :attr:`ended`, too."""
        if self._draining is None:
            self._draining = asyncio.create_task(
                self._drain(grace),
                name=f"draining {self.target.name}",
            )
            self._draining.add_done_callback(self._drained)
        return self._draining

    def cut(self) -> DrainReport:
        """End everything at once, from any thread; for a loop that does not run any more."""
        self.gate.is_closed = True
        connections = self._open_connections()
        for each in connections:
            self.target.profile.cut(each)
        report = DrainReport(cut=len(connections))
        self._finish(report)
        return report

    async def _drain(self, grace: float) -> DrainReport:
        report = await drain(
            self.gate,
            grace,
            connections=self._open_connections,
            end=self.target.profile.end,
            terminate=self.target.profile.terminate,
        )
        await self._opener.settle()
        return report

    def _drained(self, draining: asyncio.Task[DrainReport]) -> None:
        # A task that is cancelled before its first step never runs, not even its `finally`.
        left = self._open_connections()
        for each in left:
            self.target.profile.terminate(each)
        report = DrainReport(cut=len(left))
        if not draining.cancelled() and draining.exception() is None:
            report += draining.result()
        self._finish(report)
        if self._when_drained is not None:
            self._when_drained()

    def _finish(self, report: DrainReport) -> None:
        with suppress(InvalidStateError):  # drained and cut at once: one of them came first
            self.ended.set_result(report)

    def _note_opened(self, connection: Any, _: Any) -> None:
        # Asked for rather than noted: a close that hangs is announced before it has happened.
        self._opened = self._open_connections()
        self._opened.append(connection.driver_connection)

    def _open_connections(self) -> list[Any]:
        return [each for each in self._opened if self.target.profile.is_open(each)]


def _committed(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return work(connection)
