"""Statements whose connection died under them, or turned out to lead to the wrong server."""

from __future__ import annotations

from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from asgi_dbconn.errors import ConnectionLost
from asgi_dbconn.pools.events import Events
from asgi_dbconn.pools.pool_config import Target

__all__ = ["install"]

_READ_ONLY_SERVER: Final = "25006"


def install(engine: Engine, target: Target, events: Events) -> None:
    """Turn such errors on ``engine`` and its views into ConnectionLost."""

    def translate(context: ExceptionContext) -> ConnectionLost | None:
        error = context.original_exception
        if context.connection is None or not isinstance(error, context.dialect.loaded_dbapi.Error):
            return None
        if _is_demoted(context):
            # After a failover the old primary answers pings happily and refuses every write. All
            # connections of the pool lead to it.
            context.is_disconnect = True
        elif context.is_disconnect:
            # One connection was lost; the others are asked when their turn comes. Dropping all of
            # them here would make everybody connect at once.
            context.invalidate_pool_on_disconnect = False
        else:
            return None
        reason = str(error).strip() or type(error).__name__
        events.lost(reason)
        return ConnectionLost(
            f"Database {target} lost the connection of this statement: {reason}. Whether the "
            "statement took effect is not known. The next query gets a new connection."
        )

    event.listen(engine, "handle_error", translate, retval=True)


def _is_demoted(context: ExceptionContext) -> bool:
    connection = context.connection
    options = {} if connection is None else connection.get_execution_options()
    return (
        getattr(context.original_exception, "sqlstate", None) == _READ_ONLY_SERVER
        and connection is not None
        and not options.get("postgresql_readonly")
    )
