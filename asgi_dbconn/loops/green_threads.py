"""The refusal of gevent and eventlet: they replace threads, and one that waits blocks them all."""

from __future__ import annotations

import sys
from typing import Any

from asgi_dbconn.errors import ConfigurationError

__all__ = ["refuse_green_threads"]


def refuse_green_threads(what: str) -> None:
    """Raise ConfigurationError, in the name of ``what``, where threads are not real ones."""
    for library in ("gevent", "eventlet"):
        if _is_patched(library):
            raise ConfigurationError(
                f"{what} needs real threads: an event loop runs in one of them, and {library} has "
                "replaced them. Use a worker with threads (gunicorn --threads, waitress), or an "
                "ASGI server."
            )


def _is_patched(library: str) -> bool:
    # Not imported for this: where it is not loaded, it has not replaced anything.
    if library == "gevent":
        monkey: Any = sys.modules.get("gevent.monkey")
        return monkey is not None and bool(monkey.is_module_patched("threading"))
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))
