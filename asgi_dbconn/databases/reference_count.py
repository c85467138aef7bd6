"""The leases on a database, decided without awaiting.

Every method is called under the database's lock and returns what to do next; the doing happens
outside. One caller leads a change of state; all who come meanwhile wait for its outcome, in
whatever loop or thread they live.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Outcome", "Perform", "ReferenceCount", "State", "Wait", "copy_error", "wait_outcome"]


async def wait_outcome(outcome: Outcome) -> BaseException | None:
    """Return what went wrong, or None. A cancelled waiter does not cancel what the others await."""
    return await asyncio.shield(asyncio.wrap_future(outcome))


def copy_error(error: BaseException) -> BaseException:
    """Return a copy for each waiter: one exception raised in several tasks mixes up tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


Outcome = Future[BaseException | None]


class State(Enum):
    """The state, named as a person would say it; ``repr(database)`` shows it."""

    CLOSED = "not connected"
    CONNECTING = "connecting"
    OPEN = "connected"
    DRAINING = "disconnecting"


@dataclass(frozen=True, slots=True)
class Perform:
    """The order to make the change and report it by ``opened``, ``failed`` or ``closed``."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The order to ask again when another's change has an ``outcome``, unless that is an error."""

    outcome: Outcome


@dataclass(slots=True)
class ReferenceCount:
    """The count is process-wide. It is never negative, and 0 unless the state is OPEN."""

    state: State = State.CLOSED
    count: int = 0
    _outcome: Outcome = field(default_factory=Future)

    def acquire(self) -> Perform | Wait | None:
        """Take a lease for a connect. None: one more was taken on an open database."""
        match self.state:
            case State.OPEN:
                self.count += 1
                return None
            case State.CLOSED:
                return self._begin(State.CONNECTING)
            case State.CONNECTING | State.DRAINING:
                return Wait(self._outcome)

    def release(self, *, force: bool) -> Perform | Wait | None:
        """Give a lease back for a disconnect. None: nothing was to be closed, or some are left."""
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
        """Note that the leader connected, and holds the first lease."""
        self.count = 1
        return self._end(State.OPEN)

    def note_failed(self) -> Outcome:
        """Note that the leader could not connect; nothing is held."""
        return self._end(State.CLOSED)

    def note_closed(self) -> Outcome:
        """Note that the leader has drained everything."""
        return self._end(State.CLOSED)

    def after_fork(self) -> None:
        """Forget, in a child, a change that was under way: it goes on in the parent only."""
        if self.state is not State.OPEN:
            self.state, self.count = State.CLOSED, 0

    def _begin(self, state: State) -> Perform:
        self.state = state
        self._outcome = Future()
        return Perform()

    def _end(self, state: State) -> Outcome:
        self.state = state
        return self._outcome
