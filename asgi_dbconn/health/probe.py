"""Asking a database whether it answers: once at a time, however many want to know.

Probes come in bunches, from load balancers and orchestrators, and most of all when things go
badly. They share one ping, use a pooled connection, and never open an engine for themselves.
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
    """The pings under way of one registry; lives as long as it."""

    def __init__(self) -> None:
        # A task belongs to its loop, so each loop has a ping of its own.
        self._under_way: dict[tuple[Database, asyncio.AbstractEventLoop], _Asked] = {}

    async def ask_all(
        self, databases: Mapping[str | None, Database], timeout: float
    ) -> HealthReport:
        """Ask all databases concurrently, for at most ``timeout`` seconds. Never raises."""
        answers = await asyncio.gather(
            *(self.ask(database, timeout) for database in databases.values())
        )
        return HealthReport(dict(zip(databases, answers, strict=True)))

    async def ask(self, database: Database, timeout: float) -> DatabaseHealth:
        """Ping ``database``, or wait for the ping that is under way, at most ``timeout`` seconds.

        Always answers, and within that time: what goes wrong is the answer.
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
        # Not cancelled when this caller's time is up: others wait for it, too, and it ends with
        # the acquire_timeout.
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
