"""The events of one pool: counted, and told to those who observe the database."""

from __future__ import annotations

from asgi_dbconn.pools.observer import Observer, Observers
from asgi_dbconn.pools.statistics import Counters

__all__ = ["Events"]


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
        """True if measuring what only observers are told is worth its time."""
        return bool(self._observers)

    def opened(self, seconds: float) -> None:
        self.counters.connects += 1
        self._observers.tell(Observer.connection_opened, self._database, seconds)

    def failed_to_open(self, error: Exception) -> None:
        self.counters.connect_errors += 1
        self._observers.tell(Observer.connection_failed, self._database, error)

    def lost(self, reason: str) -> None:
        self.counters.lost += 1
        self._observers.tell(Observer.connection_lost, self._database, reason)

    def unclean(self) -> None:
        self.counters.unclean += 1

    def commit_unknown(self) -> None:
        self.counters.unknown_commits += 1

    def retired(self) -> None:
        self.counters.retired += 1
        self._observers.tell(Observer.connection_retired, self._database)

    def leaked(self, holder: str, seconds: float) -> None:
        self.counters.leaks += 1
        self._observers.tell(Observer.connection_leaked, self._database, holder, seconds)

    def acquired(self, seconds: float) -> None:
        self._observers.tell(Observer.acquired, self._database, seconds)

    def released(self, seconds: float) -> None:
        self._observers.tell(Observer.released, self._database, seconds)

    def waited(self, seconds: float) -> None:
        self.counters.wait_seconds += seconds

    def timed_out(self, seconds: float) -> None:
        self.counters.timeouts += 1
        self._observers.tell(Observer.acquire_timed_out, self._database, seconds)

    def refused(self) -> None:
        self.counters.overloads += 1
        self._observers.tell(Observer.acquire_refused, self._database)
