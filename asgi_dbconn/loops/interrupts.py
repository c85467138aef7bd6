"""Ctrl-C while the main thread waits below a running event loop.

``asyncio.run`` replaces the handler of SIGINT by one that only cancels its main task on the first
press. Cancelling does nothing while the loop stands still, so the first press would be lost. For
as long as we wait, Python's own handler is put back. Other handlers (a server's) are not touched.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

__all__ = ["first_press_counts", "presses"]


def presses() -> int:
    """How often Ctrl-C has been pressed since the ``asyncio.run`` of this thread began."""
    runner = _runner()
    count: int = getattr(runner, "_interrupt_count", 0)
    return count


@contextmanager
def first_press_counts(presses_before: int) -> Iterator[None]:
    """Inside the block Ctrl-C raises KeyboardInterrupt; raises it at once if there was a press
    since ``presses_before`` was counted. In another thread than the main one it does nothing.
    """
    runner = _runner()
    if runner is None:
        yield
        return
    if presses() > presses_before:
        raise KeyboardInterrupt
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, handler)


def _runner() -> Any:
    """The Runner whose handler is installed, if this is the thread that handlers run in."""
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGINT)
    method = handler.func if isinstance(handler, partial) else None
    runner = getattr(method, "__self__", None)
    return runner if isinstance(runner, asyncio.Runner) else None
