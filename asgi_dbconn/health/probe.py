"""Health probes of databases: concurrent callers share one ping per database.

Load balancers and orchestrators send probes in bunches, most of all during an incident. So the
callers share one ping. It uses a pooled connection, and never opens a transient engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import DBConnError
from asgi_dbconn.health.report import DatabaseHealth, HealthReport

__all__ = ["Probe"]

_Asked = asyncio.Task[DatabaseHealth]


class Probe:
    """The running pings of one registry; it lives as long as the registry."""

    def __init__(self) -> None:
        # A task belongs to its loop, so each loop has a ping of its own.
        self._under_way: dict[tuple[Database, asyncio.AbstractEventLoop], _Asked] = {}

    async def ask_all(
        self, databases: Mapping[str | None, Database], timeout: float
    ) -> HealthReport:
        """Ping all databases concurrently, for at most ``timeout`` seconds. Never raises."""
        answers = await asyncio.gather(
            *(self.ask(database, timeout) for database in databases.values())
        )
        return HealthReport(dict(zip(databases, answers, strict=True)))

    async def ask(self, database: Database, timeout: float) -> DatabaseHealth:
        """Ping ``database``, or wait for the ping that is running, for at most ``timeout`` seconds.

        Always returns within that time, and never raises: an error becomes part of the result.
        """
        if not database.is_connected:
            return _unwell(database, "not connected")
        key = (database, asyncio.get_running_loop())
        asked = self._under_way.get(key)
        if asked is None:
            asked = self._under_way[key] = asyncio.create_task(
                _ping(database), name=f"health of {database!r}"
            )
            asked.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Not cancelled at this caller's timeout: others may wait for the same ping, and it ends by
        # itself within the acquire_timeout.
        done, _ = await asyncio.wait({asked}, timeout=timeout)
        return asked.result() if done else _unwell(database, "TimeoutError")


async def _ping(database: Database) -> DatabaseHealth:
    started = time.perf_counter()
    try:
        await database.ping()
    except Exception as error:
        code = f" {error.code}" if isinstance(error, DBConnError) else ""
        return _unwell(database, f"{type(error).__name__}{code}")
    optional = database.options.optional
    return DatabaseHealth(True, seconds=time.perf_counter() - started, is_optional=optional)


def _unwell(database: Database, reason: str) -> DatabaseHealth:
    return DatabaseHealth(False, reason=reason, is_optional=database.options.optional)
