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

__all__ = ["after_every_fork", "after_fork", "fork_count", "keep_forever"]

_permanent: Final[list[Callable[[], None]]] = []
_listeners: Final[list[tuple[weakref.ref[Any], Callable[[Any], None]]]] = []
_kept: Final[list[Any]] = []
_generation = 0


def fork_count() -> int:
    """Return the number of forks between the first process and this one.

    A note that carries another number was made by an ancestor, about loops and threads that do not
    run here.
    """
    return _generation


def after_fork(method: Callable[[], None]) -> None:
    """Call the bound ``method`` in every child from now on, as long as its object lives."""
    # Without a callback for its end: that would be called, and complain, while the interpreter is
    # being taken apart.
    _listeners[:] = [listener for listener in _listeners if listener[0]() is not None]
    _listeners.append((weakref.ref(method.__self__), method.__func__))  # type: ignore[attr-defined]


def after_every_fork(method: Callable[[], None]) -> None:
    """Call the ``method`` of a module in every child from now on, before those of objects.

    It lives as long as the process and is held strongly: at exit modules are taken apart in any
    order, and a weak one would complain.
    """
    _permanent.append(method)


def keep_forever(thing: Any) -> None:
    """Keep ``thing`` alive, and untouched, for as long as the process lives."""
    _kept.append(thing)


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
