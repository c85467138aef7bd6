"""Ctrl-C while the main thread waits below a running event loop.

``asyncio.run`` replaces the handler of SIGINT by one that only cancels its main task on the first
press. Cancelling does nothing while the loop is blocked, so the first press would be lost. For as
long as ``run_sync`` waits, Python's own handler is put back. Other handlers (a server's) are not
touched.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final

__all__ = ["interrupt_count", "raise_on_first_interrupt"]


# The function below `signal.getsignal`. That one first tries to find a name for the handler, up to
# Python 3.12, and fails by writing out the whole handler: ten microseconds for each wait.
_getsignal: Final[Callable[[int], Any]] = import_module("_signal").getsignal


def interrupt_count() -> int:
    """Return how often Ctrl-C was pressed since the ``asyncio.run`` of the main thread began."""
    count: int = getattr(_runner(), "_interrupt_count", 0)
    return count


@contextmanager
def raise_on_first_interrupt(presses_before: int) -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside the block.

    It is raised immediately if there was a press since ``presses_before`` was counted. In another
    thread than the main one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or _runner() is None:
        yield  # handlers run in the main thread
        return
    if interrupt_count() > presses_before:
        raise KeyboardInterrupt
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if _getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, handler)


def _runner() -> Any:
    """Return the Runner whose handler is installed."""
    handler = _getsignal(signal.SIGINT)
    runner = getattr(handler.func, "__self__", None) if isinstance(handler, partial) else None
    return runner if isinstance(runner, asyncio.Runner) else None
