"""The check-in: a connection goes back into the pool only if it is proved to be clean.

SQLAlchemy rolls back what it believes to have begun, and does not ask the driver. A BEGIN that was
sent by hand, a transaction of the driver's own, a statement that is still under way: the next user
would write into it, and lose the write. So the driver is asked, which costs no round trip.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import _ConnectionRecord
from sqlalchemy.util import await_only

from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.aborted_transactions import ABORTED
from asgi_dbconn.pools.gate import Permit
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.statement_lock import StatementLock

__all__ = ["CheckIn", "PooledRecord"]

_log = logging.getLogger("asgi_dbconn")

_LOGGED_AT: Final = "asgi_dbconn.unclean_logged_at"
_LOG_PAUSE: Final = 60.0
"""Seconds between two lines about one connection."""


class CheckIn:
    """The check of the connections that come back to one pool."""

    def __init__(self, config: PoolConfig, events: Events) -> None:
        self._profile = config.profile
        self._events = events
        self._database = config.name
        self._resets_all = config.options.reset == "full"

    @property
    def driver_errors(self) -> tuple[type[Exception], ...]:
        """The errors that the driver raises by itself."""
        return self._profile.driver_errors

    def note_lost_connect(self, error: Exception) -> DatabaseUnavailable:
        """Return the error for a connection that died while it was prepared for its first use."""
        return DatabaseUnavailable(
            f"Database {self._database!r} opened a connection that was lost before its first use: "
            f"{error}. Is the server restarting, or ending sessions?"
        )

    def clean(self, record: PooledRecord) -> bool:
        """Return whether the connection of ``record`` may be used again.

        Inside SQLAlchemy's greenlet. Sends something only where something is wrong.
        """
        adapted: Any = record.dbapi_connection
        lock: StatementLock = adapted._execute_mutex
        if lock.holder is not None or lock.is_interrupted or lock.is_lost:
            self._report(record, "a statement was still under way on it")
            return False
        fault = self._profile.find_fault(adapted)
        resets_all = self._resets_all or lock.is_driver_exposed
        if fault is None and not resets_all:
            return True
        if fault is not None:
            self._report(record, fault)
        return await_only(self._profile.clean(adapted, resets_all=resets_all))

    def _report(self, record: PooledRecord, fault: str) -> None:
        self._events.note_unclean()
        now, logged_at = time.monotonic(), record.info.get(_LOGGED_AT)
        if logged_at is None or now - logged_at >= _LOG_PAUSE:
            record.info[_LOGGED_AT] = now
            _log.warning(
                "database %r: a connection came back unclean, and was cleaned or closed: %s. "
                "It was held by %s. Finish what you begin on a connection.",
                self._database,
                fault,
                "no task" if record.permit is None else record.permit.holder,
            )


class PooledRecord(_ConnectionRecord):
    """SQLAlchemy's record of one connection, with our check-in."""

    permit: Permit | None = None
    """The permit of the acquire that has the connection; None while it is in the pool."""

    def __init__(self, pool: Pool, check_in: CheckIn) -> None:
        self._check_in = check_in
        super().__init__(pool)

    def checkin(self, _fairy_was_created: bool = True) -> None:  # noqa: FBT001, FBT002 - SQLAlchemy's
        # SQLAlchemy does not roll back after a commit that failed.
        self.info.pop(ABORTED, None)
        if self.dbapi_connection is not None and self.fairy_ref is not None:
            try:
                is_clean = self._check_in.clean(self)
            except Exception as error:
                self.invalidate(error)
            except BaseException as error:
                self._checkin_failed(error)
                raise
            else:
                if not is_clean:
                    self.invalidate()
        super().checkin(_fairy_was_created)
