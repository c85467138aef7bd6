"""The turn to run an idle event loop: one thread at a time, each until its job is done.

A loop cannot change threads in the middle of a job: a query of SQLAlchemy's is a greenlet, and
greenlets stay in their thread. So the second thread waits. But if the first one's job waits for
the second thread, neither would ever end; then the second is a *guest*: its job joins the loop
that the first one runs, and the first one stays until its guests are done.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from asgi_dbconn.loops.job import Job
from asgi_dbconn.loops.per_loop import PerLoop

__all__ = ["Turn", "turn_of"]


class Turn:
    """The right to run one loop that no thread runs. Made once per loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._door = threading.Lock()
        self.is_open = False
        """True if some thread runs the loop and takes guests.

        That thread sets it, without a lock: a guest that has come a moment too early tries again.
        """
        self._is_staying = False
        self._guests: set[Job[Any]] = set()

    def take(self, seconds: float | None) -> bool:
        """Return whether it became our turn within ``seconds``; None waits for ever.

        Look at the loop again afterwards: its previous driver may have changed everything.
        """
        if seconds is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))

    def take_now(self) -> bool:
        """Return whether it became our turn without waiting."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()

    def join(self, guest: Job[Any]) -> bool:
        """Return whether ``guest`` was taken.

        Its driver will then stay for it, or wake it on leaving.
        """
        with self._door:
            if not self.is_open:
                return False
            self._guests.add(guest)
            return True

    def has(self, guest: Job[Any]) -> bool:
        """Return whether the loop is still run for ``guest``."""
        return guest in self._guests

    def leave(self, guest: Job[Any]) -> bool:
        """Let the guest leave. Return whether the driver was waiting for it, and has to be told."""
        with self._door:
            self._guests.discard(guest)
            return self._is_staying

    def close_if_empty(self) -> bool:
        """Return whether the driver may leave as no guest is left; none can join any more then."""
        with self._door:
            self.is_open = self._is_staying = bool(self._guests)
            return not self.is_open

    def close(self) -> None:
        """Let the driver leave. The guests that are there are woken: one of them takes over."""
        with self._door:
            self.is_open = self._is_staying = False
            guests, self._guests = self._guests, set()
        for guest in guests:
            guest.wake()


turn_of: Final = PerLoop(lambda _: Turn()).of
"""The turn of a loop, from any thread."""
