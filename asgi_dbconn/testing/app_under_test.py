"""A rollback around synchronous code, in whichever thread it calls ``run_sync``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asgi_dbconn.loops.environment import Environment
from asgi_dbconn.loops.managed_loop import OwnLoop
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.registry.registry import Registry

__all__ = ["isolated"]


@contextmanager
def isolated(registry: Registry) -> Iterator[None]:
    """Connect ``registry`` for the block, and roll back at the end.

    The loop has a thread of its own, so that ``models.wsgi(app)`` takes the same one, and threads
    of a test client reach it while the test waits for them.
    """
    own = OwnLoop()
    try:
        own.start("tests")
    except BaseException:
        own.end()
        raise
    with Environment(own):
        isolation = registry.rollback()
        run_sync(isolation.__aenter__())
        try:
            yield
        finally:
            run_sync(isolation.__aexit__(None, None, None))
