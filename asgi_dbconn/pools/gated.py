"""A SQLAlchemy pool that lets nobody past its gate.

The gate sits inside the pool, so that everything which leads to a connection passes it: our own
queries, sessions, AUTOCOMMIT views, and whatever a user builds on ``Database.engine``.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from asgi_dbconn.pools.gate import Gate, Permit
from asgi_dbconn.pools.liveness import Liveness

__all__ = ["GatedPool", "acquire_deadline"]

_GATE: Final = "asgi_dbconn.gate"
_PERMIT: Final = "asgi_dbconn.permit"

acquire_deadline: ContextVar[float | None] = ContextVar("acquire_deadline", default=None)
"""Until when the acquire under way must be done, on the loop's clock; None outside of one."""


class GatedPool(AsyncAdaptedQueuePool):
    """Fixed size, last in first out: the connections in use are the ones used a moment ago."""

    def __init__(self, creator: Any, gate: Gate, liveness: Liveness, **pool_arguments: Any) -> None:
        # The queue's own timeout is never reached: behind the gate there is a connection to have.
        pool_arguments |= {"pool_size": gate.size, "max_overflow": 0, "use_lifo": True}
        super().__init__(creator, **pool_arguments)
        self.gate = gate
        self.liveness = liveness
        if not pool_arguments.get("echo"):
            # Where SQLAlchemy's users look for a pool's log, and where it is quiet by default.
            self.logger = logging.getLogger("sqlalchemy.pool.GatedPool")
        if "_dispatch" not in pool_arguments:  # else the listeners came along
            # Check-in is the one way back for returned, invalidated and failed connections; a
            # detached one (the garbage collector's way, too) leaves the pool without it.
            event.listen(self, "connect", self._opened)
            event.listen(self, "checkin", self._returned)
            event.listen(self, "detach", _release)

    def connect(self) -> PoolProxiedConnection:
        permit = self.gate.acquire_nowait()
        if permit is None:
            permit = await_only(self.gate.acquire())
        token = acquire_deadline.set(permit.deadline)
        try:
            connection = self._usable(permit)
        except BaseException:
            self.gate.release(permit)
            raise
        finally:
            acquire_deadline.reset(token)
        # Only a finished checkout carries its permit: one that fails halfway is checked in by
        # SQLAlchemy too, and must not release what was released above.
        self.gate.counters.acquired += 1
        record = connection.record_info
        if record is not None:
            record[_GATE], record[_PERMIT] = self.gate, permit
        return connection

    def _usable(self, permit: Permit) -> PoolProxiedConnection:
        while True:
            connection = super().connect()
            # From here on it is in use: a drain must not close it under the question.
            permit.connection = connection.driver_connection
            try:
                if self.liveness.is_usable(connection, permit.deadline):
                    return connection
            except BaseException:
                connection.invalidate()
                raise
            permit.connection = None
            connection.invalidate()

    def _opened(self, _: Any, record: ConnectionPoolEntry) -> None:
        self.gate.counters.connects += 1
        self.liveness.note_opened(record)

    def _returned(self, connection: Any, record: ConnectionPoolEntry) -> None:
        if connection is not None:  # else it was invalidated, and its record is empty
            self.liveness.note_returned(record)
        _release(connection, record)

    def recreate(self) -> GatedPool:
        # Engine.dispose() asks for this. The gate stays the same, so that a pool which was closed
        # does not come back to life, and one which was not keeps its count.
        return type(self)(
            self._creator,
            self.gate,
            self.liveness,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )


def _release(_: Any, record: ConnectionPoolEntry) -> None:
    info = record.record_info
    permit: Permit | None = info.pop(_PERMIT, None) if info is not None else None
    if info is not None and permit is not None:
        gate: Gate = info.pop(_GATE)
        gate.release(permit)
