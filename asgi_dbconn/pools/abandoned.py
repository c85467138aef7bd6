"""Statements that are given up halfway: ``query_timeout`` has passed, or their task was cancelled.

The connection goes with them, and the server is told to stop. SQLAlchemy would wait for that, two
seconds on a network that does not answer; here the caller goes on after a moment, and the rest
happens in the background.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from asgi_dbconn.errors import QueryTimeout
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.goodbyes import Goodbyes
from asgi_dbconn.pools.parting import part_with
from asgi_dbconn.pools.target import Target

__all__ = ["install"]


def install(engine: Engine, target: Target, gate: Gate, goodbyes: Goodbyes) -> None:
    """Treat such statements on ``engine`` and its views."""

    def give_up(context: ExceptionContext) -> QueryTimeout | None:
        error, connection = context.original_exception, context.connection
        if connection is None or connection.invalidated or connection.closed:
            return None
        timed_out = target.profile.is_query_timeout(error, connection)
        if not timed_out and not isinstance(error, asyncio.CancelledError):
            return None
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False
        if target.profile.can_be_lost:
            # One who is cancelled again is on his way out already.
            with suppress(asyncio.CancelledError):
                part_with(connection.connection.driver_connection, gate, goodbyes)
        if not timed_out:
            return None
        gate.events.lost("query_timeout")
        return QueryTimeout(
            f"Database {target} did not answer a statement within "
            f"{target.options.query_timeout} s (query_timeout). The statement was cancelled and "
            "its connection given up; whether it took effect is not known. Make the statement "
            "faster, or raise query_timeout."
        )

    event.listen(engine, "handle_error", give_up, retval=True)
