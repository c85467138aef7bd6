"""Making the one engine that a database has on a loop."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asgi_dbconn.pools import (
    aborted_transactions,
    error_translation,
    lost,
    parting,
    pooled_connection,
    refused,
    undo_log,
)
from asgi_dbconn.pools.check_in import CheckIn
from asgi_dbconn.pools.connection_closer import Goodbyes
from asgi_dbconn.pools.connector import Opener
from asgi_dbconn.pools.events import Events
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.gated_pool import GatedPool
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.pool_config import Target

__all__ = ["make_engine"]


def make_engine(
    target: Target,
    gate: Gate,
    events: Events,
    liveness: Liveness,
    opener: Opener,
    goodbyes: Goodbyes,
) -> AsyncEngine:
    """Make an engine whose every connection passes ``gate``. Opens nothing."""
    echo = target.options.echo
    arguments: dict[str, Any] = {
        # Parameters are the users' data; they appear in logs only where somebody asked for them.
        "hide_parameters": echo != "debug",
        **target.options.engine_options,
        "echo": echo,
        "poolclass": GatedPool,
        "gate": gate,
        "liveness": liveness,
        "goodbyes": goodbyes,
        "check_in": CheckIn(target, events),
        "leak_after": target.options.leak_after,
    }
    engine = create_async_engine(target.address.without_password(), **arguments)
    event.listen(engine.sync_engine, "do_connect", opener)
    # Before all others that are told of a new connection: they may use it.
    event.listen(engine.sync_engine.pool, "connect", _adapt(target), insert=True)
    pooled_connection.install(engine.sync_engine)
    target.profile.install(engine.sync_engine, target.options)
    undo_log.install(engine.sync_engine)
    aborted_transactions.install(engine.sync_engine)
    lost.install(engine.sync_engine, target, gate.events)
    parting.install(engine.sync_engine, gate, goodbyes)
    error_translation.install(engine.sync_engine, target, gate, goodbyes)
    refused.install(engine.sync_engine)
    return engine


def _adapt(target: Target) -> Any:
    def adapt(connection: Any, _: Any) -> None:
        target.profile.adapt(connection)

    return adapt
