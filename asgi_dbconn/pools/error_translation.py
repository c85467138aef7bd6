"""Statements that are interrupted: ``query_timeout`` has passed, or their task was cancelled.

Where the connection is worth it, as that of a block, its lock has waited until the driver was idle
again, and the connection stays. Else it is given up, and the server is told to stop. SQLAlchemy
would wait for that, two seconds on a network that does not answer. Here the caller goes on after a
moment, and the rest happens in the background.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from asgi_dbconn.errors import QueryTimeout
from asgi_dbconn.pools.aborted_transactions import note_aborted
from asgi_dbconn.pools.connection_closer import Goodbyes
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.parting import begin_to_part, part_with
from asgi_dbconn.pools.pool_config import Target
from asgi_dbconn.pools.statement_lock import driver_of, lock_of

__all__ = ["install"]


def install(engine: Engine, target: Target, gate: Gate, goodbyes: Goodbyes) -> None:
    """Treat such statements on ``engine`` and its views."""

    def give_up(context: ExceptionContext) -> QueryTimeout | None:
        error, connection = context.original_exception, context.connection
        if connection is None or connection.invalidated or connection.closed:
            return None
        timed_out = target.profile.is_query_timeout(error, connection)
        if not timed_out and isinstance(error, Exception):
            return None
        is_kept = _is_idle(connection)
        context.is_disconnect = not is_kept
        context.invalidate_pool_on_disconnect = False
        if is_kept:
            if connection.in_transaction():
                note_aborted(connection, error)
        elif target.profile.can_be_lost:
            _part(connection, gate, goodbyes)
        return _timed_out(target, gate, is_kept=is_kept) if timed_out else None

    event.listen(engine, "handle_error", give_up, retval=True)


def _is_idle(connection: Connection) -> bool:
    """Return whether the driver has come to an end with the statement, and was waited for."""
    lock = lock_of(_adapted(connection))
    return lock.cancel_limit is not None and not lock.is_lost


def _part(connection: Connection, gate: Gate, goodbyes: Goodbyes) -> None:
    adapted = _adapted(connection)
    if lock_of(adapted).is_lost:
        begin_to_part(
            driver_of(adapted), gate, goodbyes
        )  # it was waited for, and nobody waits again
        return
    # One who is cancelled again is on his way out already.
    with suppress(asyncio.CancelledError):
        part_with(driver_of(adapted), gate, goodbyes)


def _adapted(connection: Connection) -> object:
    return getattr(connection, "_dbapi_connection").dbapi_connection  # noqa: B009


def _timed_out(target: Target, gate: Gate, *, is_kept: bool) -> QueryTimeout:
    if not is_kept:
        gate.events.lost("query_timeout")
    what_became = (
        "its transaction can only be rolled back"
        if is_kept
        else "its connection given up; whether it took effect is not known"
    )
    return QueryTimeout(
        f"Database {target} did not answer a statement within "
        f"{target.options.query_timeout} s (query_timeout). The statement was cancelled and "
        f"{what_became}. Make the statement faster, or raise query_timeout."
    )
