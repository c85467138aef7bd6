"""The time between the beginning and the end of a shell: connected, and the application started."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from asgi_dbconn.instance import Instance
from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.loops.managed_loop import OwnLoop
from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["connected"]


@contextmanager
def connected(instance: Instance, *, lifespan: bool) -> Iterator[None]:
    """Let ``run_sync`` work in the block, on a loop of its own on which everything is connected.

    The loop has a thread. So it goes on while the user thinks: what the application has started
    lives, and a query that was interrupted is cancelled on the server immediately.
    """
    own = OwnLoop()
    with ExitStack() as stack:
        stack.callback(own.end)
        own.start("shell")
        stack.enter_context(instance.registry.with_async_env(own.loop))
        app = instance.app
        if lifespan and app is not None and _is_asgi(app):
            driver = LifespanDriver(app)
            run_sync(driver.startup(), loop=own.loop)
            stack.callback(lambda: run_sync(driver.shutdown(), loop=own.loop))
        yield


def _is_asgi(app: Any) -> bool:
    # One of Flask is called with two arguments, and has no lifespan.
    try:
        inspect.signature(app).bind("scope", "receive", "send")
    except (TypeError, ValueError):
        return False
    return True
