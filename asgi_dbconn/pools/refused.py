"""Statements of tasks that have outlived their block: whatever they fail with, that is why."""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from asgi_dbconn.pools.pooled_connection import PooledConnection

__all__ = ["install"]


def install(engine: Engine) -> None:
    """Let such statements on ``engine`` and its views raise the error of their ended block.

    To be installed after all others that translate errors.
    """

    def translate(context: ExceptionContext) -> Exception | None:
        connection = context.connection
        if not isinstance(connection, PooledConnection) or connection.refusal is None:
            return None
        if not isinstance(context.original_exception, Exception):
            return None  # cancelled: that is the task's own end
        return connection.refusal()

    event.listen(engine, "handle_error", translate, retval=True)
