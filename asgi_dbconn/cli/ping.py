"""A ping of one database for ``asgi-dbconn check``, without using the application's pools."""

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
_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for closing the connection to a server that has stopped answering."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of one database, or the error instead of it."""

    name: str
    url: str
    """The URL without its password."""
    optional: bool
    server: str
    pool_size: int
    version: str | None = None
    latency_ms: float | None = None
    """The round trip of one statement on an open connection."""
    error: str | None = None
    code: str | None = None
    """The code of the error, if it is one of this package."""

    @property
    def status(self) -> Literal["up", "down"]:
        return "down" if self.version is None else "up"


async def ask(name: str, database: Database, patience: float, observer: Observer) -> Answer:
    """Connect with the options of ``database``, once, or with retries for ``patience`` seconds.

    Raises no error of the database: it becomes part of the answer. Returns within ``patience``,
    twice the ``connect_timeout``, and some seconds.
    """
    options = database.options
    facts: dict[str, Any] = {
        "name": name,
        "url": str(database.url),
        "optional": options.optional,
        "server": _PRODUCTS.get(database.url.dialect, database.url.dialect),
        "pool_size": options.pool_size,
    }
    own = dedicated(database, startup_timeout=patience, shutdown_timeout=_CLOSE_TIMEOUT, echo=False)
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
        return Answer(**facts, error=f"It accepted a connection, and did not answer in {seconds}.")
    except Exception as error:
        # An error of the driver, or of the function that returns the password.
        return Answer(**facts, error=f"{type(error).__name__}: {error}")
    return Answer(**facts, version=".".join(map(str, info)), latency_ms=latency)
