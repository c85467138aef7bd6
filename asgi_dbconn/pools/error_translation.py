"""Errors of statements, translated: QueryTimeout, ConnectionLost, or that of an ended block.

A statement is interrupted if ``query_timeout`` has passed or its task was cancelled. The connection
of a block is worth keeping: its lock has waited until the driver was idle again. Any other is
discarded, and the server is asked to cancel. SQLAlchemy would wait for that, two seconds on a
network that does not answer. Here the caller goes on after a moment, and the close goes on in the
background.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from asgi_dbconn.errors import ConnectionLost, QueryTimeout
from asgi_dbconn.pools.aborted_transactions import mark_aborted
from asgi_dbconn.pools.connection_closer import ConnectionCloser, begin_discard, discard
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.observer import Events
from asgi_dbconn.pools.pool_config import PoolConfig
from asgi_dbconn.pools.pooled_connection import PooledConnection
from asgi_dbconn.pools.statement_lock import driver_of, lock_of

__all__ = [
    "translate_interruptions",
    "translate_lost_connections",
    "translate_refusals",
]


def translate_interruptions(
    engine: Engine, config: PoolConfig, gate: Gate, closer: ConnectionCloser
) -> None:
    """Keep or discard the connection of an interrupted statement; raise QueryTimeout for one."""

    def translate(context: ExceptionContext) -> QueryTimeout | None:
        error, connection = context.original_exception, context.connection
        if connection is None or connection.invalidated or connection.closed:
            return None
        timed_out = config.profile.is_query_timeout(error, connection)
        if not timed_out and isinstance(error, Exception):
            return None
        is_kept = _is_idle(connection)
        context.is_disconnect = not is_kept
        context.invalidate_pool_on_disconnect = False
        if is_kept:
            if connection.in_transaction():
                mark_aborted(connection, error)
        elif config.profile.can_be_lost:
            _discard(connection, gate, closer)
        return _timeout_error(config, gate, is_kept=is_kept) if timed_out else None

    event.listen(engine, "handle_error", translate, retval=True)


def _is_idle(connection: Connection) -> bool:
    """Return whether the lock has waited, and the driver has ended the statement."""
    lock = lock_of(_get_adapted(connection))
    return lock.cancel_limit is not None and not lock.is_lost


def _discard(connection: Connection, gate: Gate, closer: ConnectionCloser) -> None:
    adapted = _get_adapted(connection)
    if lock_of(adapted).is_lost:
        begin_discard(driver_of(adapted), gate, closer)  # the lock has waited already
        return
    # A task that is cancelled again ends anyway.
    with suppress(asyncio.CancelledError):
        discard(driver_of(adapted), gate, closer)


def _get_adapted(connection: Connection) -> object:
    return getattr(connection, "_dbapi_connection").dbapi_connection  # noqa: B009


def _timeout_error(config: PoolConfig, gate: Gate, *, is_kept: bool) -> QueryTimeout:
    if not is_kept:
        gate.events.note_lost("query_timeout")
    what_became = (
        "its transaction can only be rolled back"
        if is_kept
        else "its connection closed; whether it took effect is not known"
    )
    return QueryTimeout(
        f"Database {config} did not answer a statement within "
        f"{config.options.query_timeout} s (query_timeout). The statement was cancelled and "
        f"{what_became}. Make the statement faster, or raise query_timeout."
    )


def translate_lost_connections(engine: Engine, config: PoolConfig, events: Events) -> None:
    """Turn the errors of lost connections on ``engine`` and its views into ConnectionLost."""

    def translate(context: ExceptionContext) -> ConnectionLost | None:
        error = context.original_exception
        if context.connection is None or not isinstance(error, context.dialect.loaded_dbapi.Error):
            return None
        if _is_read_only_server(config, context):
            # After a failover the old primary answers pings and refuses every write. All
            # connections of the pool lead to it.
            context.is_disconnect = True
        elif context.is_disconnect:
            # One connection was lost; the others are checked at their next acquire. Dropping all
            # of them here would make all tasks connect at the same time.
            context.invalidate_pool_on_disconnect = False
        else:
            return None
        reason = str(error).strip() or type(error).__name__
        events.note_lost(reason)
        return ConnectionLost(
            f"Database {config} lost the connection of this statement: {reason}. Whether the "
            "statement took effect is not known. The next query gets a new connection."
        )

    event.listen(engine, "handle_error", translate, retval=True)


def _is_read_only_server(config: PoolConfig, context: ExceptionContext) -> bool:
    connection = context.connection
    return connection is not None and config.profile.is_read_only_server(
        context.original_exception, connection.get_execution_options()
    )


def translate_refusals(engine: Engine) -> None:
    """Let statements on ``engine`` and its views raise the error of their block, if it ended.

    Install it after all others that translate errors.
    """

    def translate(context: ExceptionContext) -> Exception | None:
        connection = context.connection
        if not isinstance(connection, PooledConnection) or connection.refusal is None:
            return None
        if not isinstance(context.original_exception, Exception):
            return None  # cancelled: the task ends for that reason
        return connection.refusal()

    event.listen(engine, "handle_error", translate, retval=True)
