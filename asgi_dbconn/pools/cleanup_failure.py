"""A clean-up that went wrong: told beside the error that made it necessary, never in its place."""

from __future__ import annotations

import logging

from asgi_dbconn.errors import DatabaseUnavailable

__all__ = ["note_cleanup_failure"]

_log = logging.getLogger("asgi_dbconn")


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
