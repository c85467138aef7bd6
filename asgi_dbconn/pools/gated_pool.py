"""SQLAlchemy pool of fixed size behind a gate.

The gate is inside the pool, so that every acquire passes it: our own queries, sessions, AUTOCOMMIT
views, and all that a user builds on ``Database.engine``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from asgi_dbconn.errors import DBConnError
from asgi_dbconn.pools.check_in import CheckIn, PooledRecord
from asgi_dbconn.pools.connection_closer import ConnectionCloser
from asgi_dbconn.pools.gate import Gate, Permit, permit_of_acquire
from asgi_dbconn.pools.leak_detection import LeakDetector
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.statement_lock import StatementLock, driver_of

__all__ = ["GatedPool"]


class GatedPool(AsyncAdaptedQueuePool):
    """A pool of fixed size, last in first out: connections used a moment ago are used again."""

    def __init__(
        self,
        creator: Any,
        gate: Gate,
        liveness: Liveness,
        closer: ConnectionCloser,
        check_in: CheckIn,
        leak_after: float | None,
        **pool_arguments: Any,
    ) -> None:
        # The queue's own timeout is never reached: behind the gate a connection is free.
        pool_arguments |= {"pool_size": gate.size, "max_overflow": 0, "use_lifo": True}
        super().__init__(creator, **pool_arguments)
        self.gate = gate
        self.liveness = liveness
        self.closer = closer
        self.check_in = check_in
        self.leak_after = leak_after
        if not pool_arguments.get("echo"):
            # The usual logger of a pool in SQLAlchemy, which is quiet by default.
            self.logger = logging.getLogger("sqlalchemy.pool.GatedPool")
        if "_dispatch" not in pool_arguments:  # else the listeners came along
            # Check-in is the one way back for returned, invalidated and failed connections; a
            # detached one (the garbage collector's way, too) leaves the pool without it.
            event.listen(self, "connect", self._note_opened)
            event.listen(self, "checkin", self._note_returned)
            event.listen(self, "detach", self._note_dropped)

    def connect(self) -> PoolProxiedConnection:
        permit = self.gate.acquire_nowait()
        if permit is None:
            permit = await_only(self.gate.acquire())
        token = permit_of_acquire.set(permit)
        try:
            connection = self._usable(permit)
        except BaseException:
            self._return_record(permit)
            raise
        finally:
            permit_of_acquire.reset(token)
        # Only a finished checkout carries its permit: one that fails halfway is checked in by
        # SQLAlchemy too, and must not release what was released above.
        record: Any = connection._connection_record
        record.permit = permit
        lock: StatementLock = record.dbapi_connection._execute_mutex
        lock.check_out()
        if self.leak_after is not None:
            permit.alarm = LeakDetector(
                self.gate.name, permit.holder, self.leak_after, self.gate.events
            )
        self.gate.confirm(permit)
        return connection

    def _usable(self, permit: Permit) -> PoolProxiedConnection:
        while True:
            try:
                connection = super().connect()
            except BaseException as error:
                if permit.connection is not None:
                    # SQLAlchemy's first statements on a new connection were interrupted, and it
                    # forgets the connection then.
                    permit.cleanup = self.closer.close_in_background(permit.connection)
                if isinstance(error, self.check_in.driver_errors) and not isinstance(
                    error, DBConnError
                ):
                    raise self.check_in.note_lost_connect(error) from error
                raise
            # From here on it is in use: a drain must not close it during the liveness check.
            permit.connection = driver_of(connection.dbapi_connection)
            try:
                if self.liveness.is_usable(permit.connection, connection.info, permit.deadline):
                    return connection
            except BaseException:
                connection.invalidate()
                raise
            permit.connection = None
            connection.invalidate()

    def _end_cleanup(self, permit: Permit, _: object) -> None:
        self.gate.release(permit)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        # The record of a discarded connection must not be used before those with an idle one:
        # another connection would be opened beside them. Without the record, the pool makes a new
        # one once no idle connection is left.
        if record.dbapi_connection is None:
            self._dec_overflow()
        else:
            super()._do_return_conn(record)

    def _create_connection(self) -> ConnectionPoolEntry:
        return PooledRecord(self, self.check_in)

    def _note_opened(self, _: Any, record: ConnectionPoolEntry) -> None:
        self.liveness.note_opened(record)

    def _note_returned(self, connection: Any, record: PooledRecord) -> None:
        if connection is not None:  # otherwise it was invalidated, and its record is empty
            self.liveness.note_returned(record)
        self._release(record)

    def _note_dropped(self, _: Any, record: PooledRecord) -> None:
        permit: Permit | None = record.permit
        if permit is not None and permit.alarm is not None:
            permit.alarm.was_dropped = True
        self._release(record)

    def _release(self, record: PooledRecord) -> None:
        permit, record.permit = record.permit, None
        if permit is not None:
            self._return_record(permit)

    def _return_record(self, permit: Permit) -> None:
        if permit.cleanup is None:
            self.gate.release(permit)
        else:
            permit.cleanup.add_done_callback(partial(self._end_cleanup, permit))

    def recreate(self) -> GatedPool:
        # Engine.dispose() asks for this. The gate stays the same, so that a pool which was closed
        # does not come back to life, and one which was not keeps its count.
        return type(self)(
            self._creator,
            self.gate,
            self.liveness,
            self.closer,
            self.check_in,
            self.leak_after,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
