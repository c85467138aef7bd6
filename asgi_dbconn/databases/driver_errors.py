"""The driver's own error below SQLAlchemy's, and what it says about trying again."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

__all__ = ["driver_error", "is_conflict"]

# Serialization failure and deadlock: the server rolled one transaction back so that another could
# go on (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html).
_CONFLICTS: Final = frozenset({"40001", "40P01"})
_PRIMARY_CODE: Final = 0xFF
"""SQLITE_BUSY_SNAPSHOT and its like are SQLITE_BUSY with a reason in the higher bits."""


def driver_error(error: BaseException) -> BaseException | None:
    """Return what the driver raised; None if SQLAlchemy wraps nothing."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.driver_exception
    return None


def is_conflict(error: BaseException) -> bool:
    """Return whether the same transaction may well succeed if it is run once more as a whole."""
    original = driver_error(error)
    code = getattr(original, "sqlite_errorcode", None)
    if isinstance(code, int):
        return code & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
    return getattr(original, "sqlstate", None) in _CONFLICTS
