"""The awaitables that ``run_sync`` is given, and their refusal without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["discard", "preferred_loop"]


def discard(awaitable: Any) -> None:
    """Give up work that will not be begun: no warning says that it was never awaited.

    A future belongs to others, too. It is left alone.
    """
    if isinstance(awaitable, Coroutine):
        with suppress(ValueError, RuntimeError):  # it is running, or does not end when told to
            awaitable.close()


def preferred_loop(awaitable: Any) -> asyncio.AbstractEventLoop | None:
    """Return the loop that the awaitable would like to run on, if it has an opinion.

    It is asked for it by the method ``__asgi_dbconn_loop__()``, which returns a loop or None and
    must not wait; and only where no loop runs and none was given.
    """
    ask = getattr(type(awaitable), "__asgi_dbconn_loop__", None)
    loop: asyncio.AbstractEventLoop | None = None if ask is None else ask(awaitable)
    return loop
