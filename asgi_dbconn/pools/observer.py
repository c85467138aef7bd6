"""Pool events: counted, and passed to observers, for the user's metrics, traces and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec

from asgi_dbconn.pools.statistics import Counters, DrainReport

__all__ = ["Events", "Observer", "Observers"]

P = ParamSpec("P")
_log = logging.getLogger("asgi_dbconn")


class Observer:
    """A base class that does nothing.

    Override the methods of the events that you want to know about.

    Each is called once per event, immediately, in the task, thread and loop where it happened: be
    quick, and do not wait for anything. An error of a method is logged, and does no harm.
    ``database`` is the name of the database; times are seconds.
    """

    def database_connected(self, database: str) -> None:
        """Note that the first user has connected the database, and it has answered."""

    def database_disconnected(self, database: str, report: DrainReport) -> None:
        """Note that the last user has disconnected the database, and all its pools are drained."""

    def connection_opened(self, database: str, seconds: float) -> None:
        """Note that a physical connection was opened, and took so long."""

    def connection_failed(self, database: str, error: Exception) -> None:
        """Note that an attempt to open a physical connection failed."""

    def connection_lost(self, database: str, reason: str) -> None:
        """Note that a connection died: a statement noticed it, or the check of an idle one."""

    def connection_retired(self, database: str) -> None:
        """Note that a connection is replaced for its age, or because of ``refresh()``."""

    def connection_leaked(self, database: str, holder: str, seconds: float) -> None:
        """Note that ``holder``, a task, has had a connection for ``leak_after``, or dropped it."""

    def acquired(self, database: str, seconds: float) -> None:
        """Note that a connection was acquired, so long after it had been asked for."""

    def released(self, database: str, seconds: float) -> None:
        """Note that a connection was released, so long after it had been acquired."""

    def acquire_timed_out(self, database: str, seconds: float) -> None:
        """Note that an acquire ended in PoolTimeout after so long in the queue."""

    def acquire_refused(self, database: str) -> None:
        """Note that an acquire ended in PoolOverloaded."""

    def used_unconnected(self, database: str) -> None:
        """Note that a verb or scope opened an engine, because the database was not connected."""


class Observers:
    """The observers of one database. They come and go in any thread."""

    def __init__(self) -> None:
        self._all: Final[list[Observer]] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer`` from now on; return the function that ends this."""
        self._all.append(observer)

        def stop() -> None:
            if observer in self._all:
                self._all.remove(observer)

        return stop

    def notify(
        self,
        event: Callable[Concatenate[Observer, P], None],
        *facts: P.args,
        **named_facts: P.kwargs,
    ) -> None:
        """Call the method ``event`` of every observer, even if one of them raises."""
        for observer in tuple(self._all):
            try:
                getattr(observer, event.__name__)(*facts, **named_facts)
            except Exception:
                _log.exception("the observer %r failed at %s", observer, event.__name__)


class Events:
    """The events of one pool, which live as long as it.

    Every method is called on the pool's loop, when something happened.
    """

    def __init__(self, database: str, observers: Observers) -> None:
        self.counters = Counters()
        self._database = database
        self._observers = observers

    @property
    def are_observed(self) -> bool:
        """True if there are observers, so that times are worth measuring for them."""
        return bool(self._observers)

    def note_opened(self, seconds: float) -> None:
        self.counters.connects += 1
        self._observers.notify(Observer.connection_opened, self._database, seconds)

    def note_connect_failed(self, error: Exception) -> None:
        self.counters.connect_errors += 1
        self._observers.notify(Observer.connection_failed, self._database, error)

    def note_lost(self, reason: str) -> None:
        self.counters.lost += 1
        self._observers.notify(Observer.connection_lost, self._database, reason)

    def note_unclean(self) -> None:
        self.counters.unclean += 1

    def note_unknown_commit(self) -> None:
        self.counters.unknown_commits += 1

    def note_retired(self) -> None:
        self.counters.retired += 1
        self._observers.notify(Observer.connection_retired, self._database)

    def note_leaked(self, holder: str, seconds: float) -> None:
        self.counters.leaks += 1
        self._observers.notify(Observer.connection_leaked, self._database, holder, seconds)

    def note_acquired(self, seconds: float) -> None:
        self._observers.notify(Observer.acquired, self._database, seconds)

    def note_released(self, seconds: float) -> None:
        self._observers.notify(Observer.released, self._database, seconds)

    def note_wait(self, seconds: float) -> None:
        self.counters.wait_seconds += seconds

    def note_timeout(self, seconds: float) -> None:
        self.counters.timeouts += 1
        self._observers.notify(Observer.acquire_timed_out, self._database, seconds)

    def note_refused(self) -> None:
        self.counters.overloads += 1
        self._observers.notify(Observer.acquire_refused, self._database)
