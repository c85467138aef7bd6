"""Being told that this process is a child: what its parent opened is not its own.

Sockets are shared after a fork. A child that closes, or merely lets the garbage collector finalise,
a connection of its parent says goodbye in the parent's name. So the child parks what it inherited
where nothing is ever finalised, and opens its own when it needs it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Final

__all__ = ["after_fork", "park"]

_listeners: Final[list[weakref.WeakMethod[Callable[[], None]]]] = []
_parked: Final[list[Any]] = []


def after_fork(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in every child from now on, as long as its object lives."""
    _listeners.append(weakref.WeakMethod(method, _listeners.remove))


def park(thing: Any) -> None:
    """Keep ``thing`` alive, and untouched, for as long as the process lives."""
    _parked.append(thing)


def _in_child() -> None:
    for each in tuple(_listeners):  # a copy: one that is gone removes itself
        method = each()
        if method is not None:
            method()


os.register_at_fork(after_in_child=_in_child)
