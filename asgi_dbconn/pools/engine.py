"""Making the one engine that a database has on a loop."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolResetState
from sqlalchemy.util import await_only

from asgi_dbconn.pools import abandoned, aborted, lost, parting, undo_log
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.gated import GatedPool
from asgi_dbconn.pools.goodbyes import Goodbyes
from asgi_dbconn.pools.liveness import Liveness
from asgi_dbconn.pools.opening import Opener
from asgi_dbconn.pools.target import Target

__all__ = ["make_engine"]


def make_engine(
    target: Target, gate: Gate, liveness: Liveness, opener: Opener, goodbyes: Goodbyes
) -> AsyncEngine:
    """An engine whose every connection passes ``gate``. Opens nothing."""
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
        "leak_after": target.options.leak_after,
    }
    engine = create_async_engine(target.address.without_password(), **arguments)
    event.listen(engine.sync_engine, "do_connect", opener)
    target.profile.install(engine.sync_engine, target.options)
    undo_log.install(engine.sync_engine)
    aborted.install(engine.sync_engine)
    lost.install(engine.sync_engine, target, gate.events)
    parting.install(engine.sync_engine, gate, goodbyes)
    abandoned.install(engine.sync_engine, target, gate, goodbyes)
    if target.options.reset == "full":
        event.listen(engine.sync_engine.pool, "reset", _reset_fully(target))
    return engine


def _reset_fully(target: Target) -> Any:
    def reset(connection: Any, _: Any, state: PoolResetState) -> None:
        # Not for one that is being ended, or collected as garbage where nothing can be awaited.
        if state.asyncio_safe and not state.terminate_only:
            await_only(target.profile.reset(connection.driver_connection))

    return reset
