"""The table of drivers: each with its profile, and with the profile that isolates a test.

The rest of the package asks here and names no driver. A new driver is a row of this table, and a
spelling of a URL in ``urls.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from asgi_dbconn.pools.dialects.isolation_profiles import (
    IsolatedPostgreSQL,
    IsolatedProfile,
    IsolatedSQLite,
)
from asgi_dbconn.pools.dialects.postgresql import PostgreSQLProfile
from asgi_dbconn.pools.dialects.profile import DialectProfile
from asgi_dbconn.pools.dialects.sqlite import SQLiteProfile
from asgi_dbconn.urls import DatabaseURL

__all__ = ["BUFFERING_DRIVERS", "is_conflict", "make_isolation_profile", "profile_of"]


class _Driver(NamedTuple):
    """The two profiles of a driver."""

    profile: DialectProfile
    """Without state, shared by all pools."""
    isolate: Callable[[], IsolatedProfile]
    """Make the profile of one isolation, which has one pool with one connection."""


_DRIVERS: Final[dict[str, _Driver]] = {
    "asyncpg": _Driver(PostgreSQLProfile(), IsolatedPostgreSQL),
    "aiosqlite": _Driver(SQLiteProfile(), IsolatedSQLite),
}
"""By the name that SQLAlchemy has for the driver, as ``Dialect.driver`` and after the ``+``."""

BUFFERING_DRIVERS: Final = frozenset(
    name for name, driver in _DRIVERS.items() if driver.profile.buffers_rows
)
"""The drivers with ``buffers_rows``: a set, because the ORM asks for every query."""


def profile_of(url: DatabaseURL) -> DialectProfile:
    """Return the profile of the driver in ``url``."""
    return _driver_of(url).profile


def make_isolation_profile(url: DatabaseURL) -> IsolatedProfile:
    """Return a new profile for one isolation of the database at ``url``."""
    return _driver_of(url).isolate()


def is_conflict(error: BaseException) -> bool:
    """Return whether any driver would raise ``error`` for a conflict of two transactions.

    All are asked: an error does not tell its database, and no code has a meaning in two of them.
    """
    return any(driver.profile.is_conflict(error) for driver in _DRIVERS.values())


def _driver_of(url: DatabaseURL) -> _Driver:
    return _DRIVERS[url.drivername.rpartition("+")[2]]
