"""Asking one database for a sign of life, without touching the application's own pools."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from asgi_dbconn.databases.database import Database, dedicated
from asgi_dbconn.errors import DBConnError
from asgi_dbconn.pools.observer import Observer

__all__ = ["Answer", "ask"]

_PRODUCTS: Final = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
_FAREWELL: Final = 1.0
"""Seconds for a goodbye to a server that has stopped answering."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of one database, or the reason for which there is none."""

    name: str
    url: str
    """The URL without its password."""
    optional: bool
    server: str
    pool_size: int
    version: str | None = None
    latency_ms: float | None = None
    """One statement, there and back, on a connection that is open."""
    error: str | None = None
    code: str | None = None
    """The error's own code, where it is one of ours."""

    @property
    def status(self) -> Literal["up", "down"]:
        return "down" if self.version is None else "up"


async def ask(name: str, database: Database, patience: float, observer: Observer) -> Answer:
    """Connect with the options of ``database``, once, or until ``patience`` seconds have passed.

    Never raises for the database's sake: what goes wrong is the answer. Returns within
    ``patience``, twice the ``connect_timeout``, and some seconds.
    """
    options = database.options
    facts: dict[str, Any] = {
        "name": name,
        "url": str(database.url),
        "optional": options.optional,
        "server": _PRODUCTS.get(database.url.dialect, database.url.dialect),
        "pool_size": options.pool_size,
    }
    own = dedicated(database, startup_timeout=patience, shutdown_timeout=_FAREWELL, echo=False)
    own.observe(observer)
    try:
        async with own:
            info = own.engine.dialect.server_version_info or ()
            began = time.perf_counter()
            async with asyncio.timeout(options.connect_timeout):
                await own.ping()
            latency = round(1000 * (time.perf_counter() - began), 2)
    except DBConnError as error:
        return Answer(**facts, error=str(error), code=error.code)
    except TimeoutError:
        seconds = f"{options.connect_timeout:g} s"
        return Answer(**facts, error=f"It gave a connection, and no answer on it within {seconds}.")
    except Exception as error:
        # A driver's own, or that of the function that is asked for the password.
        return Answer(**facts, error=f"{type(error).__name__}: {error}")
    return Answer(**facts, version=".".join(map(str, info)), latency_ms=latency)
