"""The lifespans of mounted applications, which frameworks do not run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.types import ASGIApp, Scope

__all__ = ["IncludedApps"]

_log = logging.getLogger("asgi_dbconn")


class IncludedApps:
    """Included applications, started in order and stopped in reverse.

    Each application has a state and a task of its own.
    """

    def __init__(self, apps: Sequence[ASGIApp], scope: Scope, timeout: float | None) -> None:
        self._apps = apps
        self._scope = scope
        self._timeout = timeout
        self._started: list[LifespanDriver] = []

    async def start(self) -> None:
        """Start all; if one fails, stop the others before its error is raised."""
        for app in self._apps:
            driver = LifespanDriver(
                app,
                startup_timeout=None,
                shutdown_timeout=self._timeout,
                scope=self._scope,
            )
            try:
                await driver.startup()
            except BaseException:
                await self.stop()
                raise
            self._started.append(driver)

    async def stop(self) -> Exception | None:
        """Stop all that run, even if some fail; log every error and return the first."""
        first: Exception | None = None
        while self._started:
            driver = self._started.pop()
            try:
                await driver.shutdown()
            except Exception as error:
                _log.error("an included application did not stop cleanly", exc_info=error)
                first = first or error
        return first
