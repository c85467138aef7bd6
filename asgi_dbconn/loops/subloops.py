"""A second event loop for code that blocks the first one: one per parent, in a thread of its own.

It ends when its parent is closed or collected, which needs no polling.
"""

from __future__ import annotations

import asyncio
from typing import Final

from asgi_dbconn.loops.loop_lifetime import watch
from asgi_dbconn.loops.managed_loop import OwnLoop
from asgi_dbconn.loops.per_loop import PerLoop

__all__ = ["subloop_of"]


def subloop_of(parent: asyncio.AbstractEventLoop) -> OwnLoop:
    """Return the subloop of ``parent``, from any thread; the same one as long as both live.

    Raises OSError if the process has no descriptors left, RuntimeError if it gets no thread.
    """
    own = _subloops.of(parent)
    if own.is_ending:
        _subloops.forget(parent)
        own = _subloops.of(parent)
    return own


def _begin(parent: asyncio.AbstractEventLoop) -> OwnLoop:
    own = OwnLoop(like=parent)
    try:
        own.start("subloop")
    except BaseException:
        own.end()
        raise
    watch(parent).add(own.stop)
    return own


_subloops: Final = PerLoop(_begin)
