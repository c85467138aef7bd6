"""Errors of a driver: find it below SQLAlchemy's, tell a conflict, log a rollback that failed.

Every error of a statement is SQLAlchemy's, with the driver's inside. Only the driver's says why.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import DBAPIError

from asgi_dbconn.errors import DatabaseUnavailable
from asgi_dbconn.pools.dialects import drivers

__all__ = ["driver_error", "is_conflict", "note_cleanup_failure"]

_log = logging.getLogger("asgi_dbconn")


def driver_error(error: BaseException) -> BaseException | None:
    """Return the driver's error inside of ``error``; None if SQLAlchemy wraps none."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.driver_exception
    return None


def is_conflict(error: BaseException) -> bool:
    """Return whether ``error`` is a conflict: run again as a whole, the transaction may succeed."""
    original = driver_error(error)
    return original is not None and drivers.is_conflict(original)


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
            "connection was closed. The server rolls back what was not committed."
        )
