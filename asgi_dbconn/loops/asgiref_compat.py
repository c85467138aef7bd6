"""Context variables of asgiref, Django's bridge to asynchronous code, that must not change threads.

Where asgiref runs a loop, a context variable of its says that the thread which waits for the loop
executes the calls that belong to it. That thread waits in ``run_sync`` now and executes nothing. So
the work must not see that variable. asgiref's other variables belong to a thread, and carried into
a thread where they do not belong, they would only hide those that do.
"""

from __future__ import annotations

import sys
import threading
from contextvars import Context, copy_context
from typing import Any

__all__ = ["belongs_to_another_thread", "context_for_another_thread", "forget_the_waiting_thread"]


def forget_the_waiting_thread() -> None:
    """Clear asgiref's variable in the current context, if asgiref is in use and has set it."""
    asgiref: Any = sys.modules.get("asgiref.sync")
    if asgiref is not None:
        _forget(asgiref)


def context_for_another_thread() -> Context:
    """Return a copy of the current context without asgiref's variable, for another thread."""
    context = copy_context()
    asgiref: Any = sys.modules.get("asgiref.sync")
    if asgiref is not None:
        context.run(_forget, asgiref)
    return context


def belongs_to_another_thread(value: object) -> bool:
    """Return whether a variable's value is asgiref's, and of another thread than this one."""
    return (
        type(value).__module__ == "asgiref.local"
        and getattr(value, "thread_id", None) != threading.get_ident()
    )


def _forget(asgiref: Any) -> None:
    executors = asgiref.AsyncToSync.executors
    if getattr(executors, "current", None) is not None:
        executors.current = None
    # The same for the executor with one thread that a request of Django's has, if that thread is
    # this one: its calls would be executed once run_sync returns, which would wait for them.
    bridge = asgiref.SyncToAsync
    request = bridge.thread_sensitive_context.get(None)
    executor = None if request is None else bridge.context_to_thread_executor.get(request)
    # A thread that has only just begun is not in that set yet.
    if executor is not None and executor._threads <= {threading.current_thread()}:
        bridge.thread_sensitive_context.set(None)
