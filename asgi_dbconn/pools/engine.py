"""Making the one engine that a database has on a loop."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from asgi_dbconn.pools import aborted
from asgi_dbconn.pools.gate import Gate
from asgi_dbconn.pools.gated import GatedPool
from asgi_dbconn.pools.opening import Opener
from asgi_dbconn.pools.target import Target

__all__ = ["make_engine"]


def make_engine(target: Target, gate: Gate) -> AsyncEngine:
    """An engine whose every connection passes ``gate``. Opens nothing."""
    echo = target.options.echo
    arguments: dict[str, Any] = {
        # Parameters are the users' data; they appear in logs only where somebody asked for them.
        "hide_parameters": echo != "debug",
        **target.options.engine_options,
        "echo": echo,
        "poolclass": GatedPool,
        "gate": gate,
    }
    engine = create_async_engine(target.address.without_password(), **arguments)
    event.listen(engine.sync_engine, "do_connect", Opener(target))
    target.profile.install(engine.sync_engine)
    aborted.install(engine.sync_engine)
    return engine
