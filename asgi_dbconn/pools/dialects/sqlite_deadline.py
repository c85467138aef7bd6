"""``query_timeout`` on SQLite, by a progress handler that stops a statement after its deadline.

SQLite has no statement timeout. It calls the handler every so many steps of its virtual machine.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.util import await_only

from asgi_dbconn.pools.statement_lock import driver_of

__all__ = ["begin", "end", "has_passed", "install"]

_KEY: Final = "asgi_dbconn.deadline"
_STEPS: Final = 10_000  # of SQLite's virtual machine between two calls of the handler: about 0.1 ms
_STOPPED: Final = ("SQLITE_INTERRUPT", "SQLITE_BUSY", "SQLITE_LOCKED")


class _Deadline:
    """The deadline of a connection's statement; set in the loop, read in the driver's thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at = math.inf
        self.was_missed = False

    def has_passed(self) -> bool:
        return time.monotonic() >= self.at


def begin(connection: Connection, *_: Any) -> None:
    """Set the deadline of a statement that begins on ``connection``, if there is a limit."""
    deadline: _Deadline | None = connection.info.get(_KEY)
    if deadline is not None:
        deadline.at, deadline.was_missed = time.monotonic() + deadline.seconds, False


def end(connection: Connection, *_: Any) -> None:
    """Clear the deadline: the statement has ended."""
    if connection.invalidated or connection.closed:
        return  # its deadline is gone with it, and the error says why
    deadline: _Deadline | None = connection.info.get(_KEY)
    if deadline is not None:
        deadline.at = math.inf


def install(engine: Engine, seconds: float) -> None:
    """Stop statements of ``engine`` after so many seconds; they fail as interrupted, or locked."""

    def watch(connection: Any, record: Any) -> None:
        deadline = record.info[_KEY] = _Deadline(seconds)
        driver = driver_of(connection)
        await_only(driver.set_progress_handler(deadline.has_passed, _STEPS))

    def note_failure(context: ExceptionContext) -> None:
        connection = context.connection
        if connection is not None and not connection.invalidated and not connection.closed:
            deadline: _Deadline = connection.info[_KEY]
            # Only once: the ROLLBACK that comes next must not be stopped, too.
            deadline.was_missed, deadline.at = deadline.has_passed(), math.inf

    event.listen(engine, "connect", watch)
    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", note_failure)


def has_passed(connection: Connection, error: BaseException) -> bool:
    """Return whether ``error`` was raised because the deadline had passed."""
    deadline: _Deadline | None = connection.info.get(_KEY)
    stopped = getattr(error, "sqlite_errorname", "") in _STOPPED
    return stopped and deadline is not None and deadline.was_missed
