"""The reference count of a database: how many users keep it connected. It awaits nothing.

Every method is called under the database's lock and returns an order: what the caller has to do
next, outside of the lock. One caller, the leader, performs a change of state; all others that come
meanwhile wait for its outcome, on any loop and thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Outcome", "Perform", "ReferenceCount", "State", "Wait", "copy_error", "wait_outcome"]


async def wait_outcome(outcome: Outcome) -> BaseException | None:
    """Return the error of a change, or None. Cancelled, it does not cancel the other waiters."""
    return await asyncio.shield(asyncio.wrap_future(outcome))


def copy_error(error: BaseException) -> BaseException:
    """Return a copy for one waiter: an exception raised in several tasks mixes up tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


Outcome = Future[BaseException | None]


class State(Enum):
    """The state of a database, in the words that ``repr(database)`` shows."""

    CLOSED = "not connected"
    CONNECTING = "connecting"
    OPEN = "connected"
    DRAINING = "disconnecting"


@dataclass(frozen=True, slots=True)
class Perform:
    """The order to perform the change and report it by one of the ``note_`` methods."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The order to wait for the ``outcome`` of a change, and ask again unless that is an error."""

    outcome: Outcome


@dataclass(slots=True)
class ReferenceCount:
    """The count of one database in the process. Never negative, and 0 unless the state is OPEN."""

    state: State = State.CLOSED
    count: int = 0
    _outcome: Outcome = field(default_factory=Future)

    def acquire(self) -> Perform | Wait | None:
        """Acquire a reference for a connect. None: the database is open, and has one more."""
        match self.state:
            case State.OPEN:
                self.count += 1
                return None
            case State.CLOSED:
                return self._begin(State.CONNECTING)
            case State.CONNECTING | State.DRAINING:
                return Wait(self._outcome)

    def release(self, *, force: bool) -> Perform | Wait | None:
        """Release a reference for a disconnect. None: there was none, or others are left."""
        match self.state:
            case State.OPEN if self.count > 1 and not force:
                self.count -= 1
                return None
            case State.OPEN:
                self.count = 0
                return self._begin(State.DRAINING)
            case State.CLOSED:
                return None
            case State.CONNECTING | State.DRAINING:
                return Wait(self._outcome)

    def note_opened(self) -> Outcome:
        """Note that the leader connected, and holds the first reference."""
        self.count = 1
        return self._end(State.OPEN)

    def note_failed(self) -> Outcome:
        """Note that the leader could not connect; no reference is held."""
        return self._end(State.CLOSED)

    def note_closed(self) -> Outcome:
        """Note that the leader has drained all pools."""
        return self._end(State.CLOSED)

    def after_fork(self) -> None:
        """Forget a change that was under way, in a child: it goes on in the parent only."""
        if self.state is not State.OPEN:
            self.state, self.count = State.CLOSED, 0

    def _begin(self, state: State) -> Perform:
        self.state = state
        self._outcome = Future()
        return Perform()

    def _end(self, state: State) -> Outcome:
        self.state = state
        return self._outcome
