"""Being told what the pools do, for metrics, traces and logs of one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec

from asgi_dbconn.pools.drain_report import DrainReport

__all__ = ["Observer", "Observers"]

P = ParamSpec("P")
_log = logging.getLogger("asgi_dbconn")


class Observer:
    """Does nothing. Override the methods of the events that you want to know about.

    Each is called once per event, at once, in the task, thread and loop where it happened: be
    quick, and do not wait for anything. Whatever a method raises is logged, and harms nobody.
    ``database`` is the name of the database; times are seconds.
    """

    def database_connected(self, database: str) -> None:
        """The first one counts on the database, and it has answered."""

    def database_disconnected(self, database: str, report: DrainReport) -> None:
        """Nobody counts on the database any more, and all its pools are drained."""

    def connection_opened(self, database: str, seconds: float) -> None:
        """A physical connection was opened, and took so long."""

    def connection_failed(self, database: str, error: Exception) -> None:
        """An attempt to open a physical connection failed."""

    def connection_lost(self, database: str, reason: str) -> None:
        """A connection died: a statement found out, or the check of an idle one."""

    def connection_retired(self, database: str) -> None:
        """A connection is replaced for its age, or because of ``refresh()``."""

    def connection_leaked(self, database: str, holder: str, seconds: float) -> None:
        """The task ``holder`` has had a connection for ``leak_after`` seconds, or dropped it."""

    def acquired(self, database: str, seconds: float) -> None:
        """A connection was handed out, so long after it had been asked for."""

    def released(self, database: str, seconds: float) -> None:
        """A connection was given back, so long after it had been handed out."""

    def acquire_timed_out(self, database: str, seconds: float) -> None:
        """An acquire ended in PoolTimeout after so long in the queue."""

    def acquire_refused(self, database: str) -> None:
        """An acquire ended in PoolOverloaded."""

    def used_unconnected(self, database: str) -> None:
        """A verb or scope opened an engine for itself, because nobody had connected."""


class Observers:
    """All who observe one database. They come and go in any thread."""

    def __init__(self) -> None:
        self._all: Final[list[Observer]] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell ``observer`` from now on, until what is returned here is called."""
        self._all.append(observer)

        def stop() -> None:
            if observer in self._all:
                self._all.remove(observer)

        return stop

    def tell(
        self,
        event: Callable[Concatenate[Observer, P], None],
        *facts: P.args,
        **named_facts: P.kwargs,
    ) -> None:
        """Call the method ``event`` of each; one that raises does not keep it from the others."""
        for each in tuple(self._all):
            try:
                getattr(each, event.__name__)(*facts, **named_facts)
            except Exception:
                _log.exception("the observer %r failed at %s", each, event.__name__)
