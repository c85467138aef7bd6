"""SQLAlchemy's adapted connections, with every use of the driver behind one lock.

SQLAlchemy holds its mutex while a statement executes, but not while it commits or rolls back. Two
tasks that share a connection meet there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.util import await_only

from asgi_dbconn.pools.statement_lock import StatementLock, Stop, lock_of

__all__ = ["LockedConnection", "lock"]


class LockedConnection:
    """A base for classes that also derive from an adapted connection of SQLAlchemy's.

    An instance is made by :func:`lock` from one that exists, so there are no slots of its own.
    """

    __slots__ = ()

    _connection: Any

    @property
    def driver_connection(self) -> Any:
        """The driver's connection. Its user may change the session and not change it back."""
        lock_of(self).is_driver_exposed = True
        return self._connection

    def _finish(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Do ``work``, the begin or the end of a transaction, under the lock, as a statement."""
        try:
            await_only(self._run_locked(work))
        except Exception as error:
            # The adapted connection's own: it translates what the driver raises.
            self._handle_exception(error)  # type: ignore[attr-defined]

    async def _run_locked(self, work: Callable[[], Awaitable[Any]]) -> None:
        lock = lock_of(self)
        await lock.__aenter__()
        try:
            await work()
        except BaseException as error:
            await lock.__aexit__(type(error), error, error.__traceback__)
            raise
        # Not by __aexit__, which raises on a lost connection: the COMMIT has taken effect.
        lock.release()


def lock(
    connection: AsyncAdapt_dbapi_connection,
    kind: type[LockedConnection],
    wait_idle: Stop,
    *,
    keeps_connection: bool,
) -> None:
    """Turn SQLAlchemy's adapted connection into one of ``kind``, with a lock of its own."""
    adapted: Any = connection
    adapted.__class__ = kind
    adapted._execute_mutex = StatementLock(wait_idle, keeps_connection=keeps_connection)
