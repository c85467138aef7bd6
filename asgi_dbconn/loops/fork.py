"""Hooks that run in a forked child: connections and loops of the parent are not its own.

Sockets are shared after a fork. A child that closes a connection of its parent, or lets the garbage
collector finalise it, ends it in the parent's name. So the child keeps what it inherited for ever,
and opens its own connections when it needs them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Final

__all__ = ["after_every_fork", "after_fork", "fork_count", "keep_forever"]

_permanent: Final[list[Callable[[], None]]] = []
_listeners: Final[list[tuple[weakref.ref[Any], Callable[[Any], None]]]] = []
_inherited: Final[list[Any]] = []
_generation = 0


def fork_count() -> int:
    """Return the number of forks between the first process and this one.

    A record with another number was made by an ancestor, about loops and threads that do not run
    here.
    """
    return _generation


def after_fork(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in every child from now on, as long as its object lives."""
    # Without a callback for its end: that would be called, and fail, while the interpreter shuts
    # down.
    _listeners[:] = [listener for listener in _listeners if listener[0]() is not None]
    _listeners.append((weakref.ref(method.__self__), method.__func__))  # type: ignore[attr-defined]


def after_every_fork(method: Callable[[], None]) -> None:
    """Call the ``method`` of a module in every child from now on, before those of objects.

    The method is held strongly, for as long as the process lives: at exit modules are cleared in
    any order, and a weak reference would fail.
    """
    _permanent.append(method)


def keep_forever(value: Any) -> None:
    """Keep ``value`` alive and untouched for as long as the process lives."""
    _inherited.append(value)


def _in_child() -> None:
    global _generation  # noqa: PLW0603 - a process has one
    _generation += 1
    for permanent in _permanent:
        permanent()
    for reference, function in _listeners:
        owner = reference()
        if owner is not None:
            function(owner)


os.register_at_fork(after_in_child=_in_child)
