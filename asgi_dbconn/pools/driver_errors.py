"""The errors of drivers below SQLAlchemy's own, conflicts among them, and failed rollbacks."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from asgi_dbconn.errors import DatabaseUnavailable

__all__ = ["driver_error", "is_conflict", "note_cleanup_failure"]

_log = logging.getLogger("asgi_dbconn")

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


def note_cleanup_failure(
    database: str, failure: BaseException, error: BaseException | None
) -> None:
    """Log that a rollback on ``database`` failed; note it on the ``error`` that leaves the work."""
    text = f"{type(failure).__name__}: {failure}".rstrip(": ").splitlines()[0]
    level = logging.INFO if isinstance(failure, DatabaseUnavailable) else logging.WARNING
    _log.log(level, "database %r: a transaction could not be rolled back: %s", database, text)
    if error is not None:
        error.add_note(
            f"The transaction on database {database!r} could not be rolled back ({text}), and its "
            "connection was given up. The server rolls back what was not committed."
        )
