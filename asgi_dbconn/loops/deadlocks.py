"""Nested ``run_sync`` calls, the graph of loops that wait for each other, and vetoes.

A context variable knows the enclosing calls: it travels into tasks and, by ``asyncio.to_thread``,
into threads. It cannot know that a loop of another thread waits for this one. So a table holds all
waiting loops, each with the loop that it waits for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from asgi_dbconn.loops.fork import after_every_fork, fork_count

__all__ = [
    "BlockingVeto",
    "SyncCall",
    "add_blocking_veto",
    "enclosing_calls",
    "find_blocking_veto",
    "is_blocked",
    "is_waiting",
    "waiting_for",
]


class SyncCall:
    """One ``run_sync`` that has not returned yet, as the calls nested in it see it."""

    __slots__ = ("_generation", "blocked_loop", "driven_loop", "is_open", "parent")

    def __init__(self, blocked_loop: asyncio.AbstractEventLoop | None) -> None:
        parent = _innermost.get()
        while parent is not None and not parent.is_active:
            parent = parent.parent
        self.parent: SyncCall | None = parent
        self.blocked_loop = blocked_loop
        """The loop that runs in the calling thread. It is blocked until the call returns."""
        self.driven_loop: asyncio.AbstractEventLoop | None = None
        """The idle loop that the calling thread runs meanwhile, if any."""
        self.is_open = True
        self._generation = fork_count()

    @property
    def is_active(self) -> bool:
        # A child that was forked inside of a call is not inside of it: it has no such thread.
        return self.is_open and self._generation == fork_count()

    def depth(self) -> int:
        """Return the number of open calls that enclose this one."""
        count, call = 0, self.parent
        while call is not None:
            count += call.is_active
            call = call.parent
        return count

    def enter(self) -> None:
        """Make this the innermost call of the current context, which is the work's."""
        _innermost.set(self)

    def close(self) -> None:
        """End the call. Contexts may outlive it, and must not keep its loops alive."""
        self.is_open = False
        self.blocked_loop = self.driven_loop = None


_innermost: ContextVar[SyncCall | None] = ContextVar("asgi_dbconn_call", default=None)


def enclosing_calls() -> Iterator[SyncCall]:
    """Yield the open calls that enclose this context, the innermost first."""
    call = _innermost.get()
    while call is not None:
        if call.is_active:
            yield call
        call = call.parent


class _Waiting:
    """The wait-for graph: blocked loops, each with the loop that it waits for."""

    def __init__(self) -> None:
        self._start_empty()
        after_every_fork(self._start_empty)

    def _start_empty(self) -> None:
        self.lock = threading.Lock()
        self.targets: dict[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop] = {}


_waiting: Final = _Waiting()


def is_blocked(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether ``loop``, not the running one, is blocked until this code has finished.

    A wait for anything on it, for one of its connections say, would never end here.
    """
    here = asyncio._get_running_loop()
    if loop is here:
        return False
    call = _innermost.get()
    while call is not None:
        if call.blocked_loop is loop and call.is_active:
            return True
        call = call.parent
    return bool(_waiting.targets) and here is not None and _leads_here(loop, here)


def is_waiting(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a ``run_sync`` of any thread keeps ``loop`` from running at this moment."""
    return loop in _waiting.targets


class waiting_for:  # noqa: N801 - reads as a block: with waiting_for(...)
    """A block in which the loop of this thread is blocked and waits for ``target``.

    The value of ``as`` says whether it may: False if the target waits for this thread's loop
    already. Two threads that wait for each other's loops could not both find that out otherwise.
    """

    __slots__ = ("_entered", "_here", "_target")

    def __init__(self, here: asyncio.AbstractEventLoop, target: asyncio.AbstractEventLoop) -> None:
        self._here = here
        self._target = target
        self._entered = False

    def __enter__(self) -> bool:
        with _waiting.lock:
            self._entered = not _leads_here(self._target, self._here)
            if self._entered:
                _waiting.targets[self._here] = self._target
        return self._entered

    def __exit__(self, *exc_info: object) -> None:
        if self._entered:
            _waiting.targets.pop(self._here, None)


def _leads_here(loop: asyncio.AbstractEventLoop, here: asyncio.AbstractEventLoop) -> bool:
    step: asyncio.AbstractEventLoop | None = loop
    while step is not None and step is not here:
        step = _waiting.targets.get(step)
    return step is here


BlockingVeto = Callable[[asyncio.AbstractEventLoop, Awaitable[Any]], str | None]
"""A function of the loop that would be blocked and the awaitable that would run meanwhile. Returns
None, or what is held there, as in "the transaction of database 'default'"."""

_vetoes: Final[list[BlockingVeto]] = []


def add_blocking_veto(veto: BlockingVeto) -> None:
    """Ask ``veto`` whenever run_sync is about to block the loop that runs in its thread.

    It is called in that thread and in the context of the call, must not wait, and must be quick.
    """
    _vetoes.append(veto)


def find_blocking_veto(loop: asyncio.AbstractEventLoop | None, work: Awaitable[Any]) -> str | None:
    """Return what the first veto names as held; None without a veto, or if no loop is blocked."""
    if loop is None:
        return None
    for veto in _vetoes:
        held = veto(loop, work)
        if held is not None:
            return held
    return None
