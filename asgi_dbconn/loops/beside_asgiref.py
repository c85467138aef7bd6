"""Living beside asgiref, Django's own bridge between synchronous and asynchronous code.

Where asgiref runs a loop of its own, it keeps in a context variable that "the thread which waits
for this executes what must run in it". That thread waits for us now, so nothing would be executed:
the work must not see that note. asgiref's other variables belong to a thread, and carried into a
thread where they do not belong, they would only hide those that do.
"""

from __future__ import annotations

import sys
import threading
from contextvars import Context
from typing import Any

__all__ = ["belongs_to_another_thread", "forget_the_waiting_thread"]


def forget_the_waiting_thread(context: Context) -> None:
    """Remove asgiref's note from ``context``, if asgiref is in use and has left one."""
    asgiref: Any = sys.modules.get("asgiref.sync")
    if asgiref is not None:
        context.run(_forget, asgiref.AsyncToSync)


def belongs_to_another_thread(value: object) -> bool:
    """Whether a context variable's value is asgiref's, and of another thread than this one."""
    return (
        type(value).__module__ == "asgiref.local"
        and getattr(value, "thread_id", None) != threading.get_ident()
    )


def _forget(bridge: Any) -> None:
    if getattr(bridge.executors, "current", None) is not None:
        bridge.executors.current = None
