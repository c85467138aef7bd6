"""Leak detection: the task and line that acquired a connection and did not release it."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from asgi_dbconn.call_site import format_call_lines
from asgi_dbconn.pools.observer import Events

__all__ = ["LeakDetector"]

_log = logging.getLogger("asgi_dbconn")

_SHOWN_LINES: Final = 6
_LAST_LINE: Final = re.compile(r'.*File "(?P<file>[^"]*)", line (?P<line>\d+)', re.DOTALL)


class LeakDetector:
    """An alarm after ``leak_after`` seconds, for as long as the connection is held.

    Made in the task that acquires it, because a person will look for that task's stack.
    """

    def __init__(self, database: str, holder: str, leak_after: float, events: Events) -> None:
        self._database = database
        self._holder = holder
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._taken_at = self._loop.time()
        self._taken_by = format_call_lines(_SHOWN_LINES)
        self._has_reported = False
        self.was_dropped = False
        """True once a thread has noticed that the connection will never be released."""
        self._timer = self._loop.call_later(leak_after, self._report)

    @property
    def call_site(self) -> str:
        """File and line that acquired the connection, in short."""
        found = _LAST_LINE.match(self._taken_by)
        return f"{found['file']}:{found['line']}" if found else ""

    def cancel(self) -> None:
        """End the alarm: the pool has the connection back, or at least its permit."""
        self._timer.cancel()
        held = self._loop.time() - self._taken_at
        if self.was_dropped:
            self._log("dropped a connection without giving it back, after %.1f s", held)
            if not self._has_reported:
                self._events.note_leaked(self._holder, held)
        elif self._has_reported:
            _log.warning(
                "database %r: %s gave its connection back after all, after %.1f s",
                self._database,
                self._holder,
                held,
            )

    def _report(self) -> None:
        self._has_reported = True
        held = self._loop.time() - self._taken_at
        self._log("has held a connection for %.1f s (leak_after)", held)
        self._events.note_leaked(self._holder, held)

    def _log(self, what: str, held: float) -> None:
        _log.warning(
            f"database %r: %s {what}; it was taken here:\n%s",
            self._database,
            self._holder,
            held,
            self._taken_by,
        )
