"""The lifespan protocol as decisions: what to do with each message, and with each way to end.

No I/O and no loop here. The wrapped application ("inner") talks to us as if we were the server,
and we talk to the server in its place, so that everything is connected before inner's startup and
until after its shutdown, whatever either of them does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["Ending", "LifespanProtocol", "OnReceive", "OnSend"]


class OnReceive(Enum):
    """The answer to inner's call of ``receive``."""

    REPLAY_STARTUP = auto()
    ASK_SERVER = auto()
    CALL_OFF = auto()  # a shutdown of ours: the start fails for a reason that inner does not know
    REFUSE = auto()  # the conversation is over; waiting for ever would hang the shutdown


class OnSend(Enum):
    """The treatment of a message that inner sends."""

    FORWARD = auto()
    START_INCLUDED_THEN_FORWARD = auto()  # inner is ready; mounted applications come after it
    NOTE = auto()  # inner's goodbye in a start that was called off; the server hears of that alone
    CLOSE_THEN_FORWARD = auto()  # the last word of a life: servers cancel what comes after it
    REFUSE_FOREIGN = auto()  # not a lifespan message, or before startup was received
    REFUSE_REPEATED = auto()  # servers assert on a second terminal message


class Ending(Enum):
    """The meaning of the end of inner's call, by returning or by raising."""

    FINISHED = auto()  # everything was said
    REFUSED_TO_STOP = auto()  # inner has sent shutdown.failed
    CALLED_OFF = auto()  # inner was shut down again before the server heard of its start
    REFUSED_TO_START = auto()  # inner has sent startup.failed
    CRASHED_IN_STARTUP = auto()  # it took the startup message and raised without an answer
    UNSUPPORTED = auto()  # it has no lifespan: we speak for it
    LEFT_EARLY = auto()  # it started and is gone, but the server goes on serving


@dataclass(slots=True)
class LifespanProtocol:
    """One life of one application; a server may start several, one after another or per loop."""

    took_startup: bool = False
    started: bool = False
    failed: bool = False
    shutdown_asked: bool = False
    done: bool = False
    stop_failed: bool = False
    called_off: bool = False
    spoke_foreign: bool = False

    def inner_receives(self) -> OnReceive:
        if not self.took_startup:
            self.took_startup = True
            return OnReceive.REPLAY_STARTUP
        if self.failed or self.done:
            return OnReceive.REFUSE
        return OnReceive.CALL_OFF if self.called_off else OnReceive.ASK_SERVER

    def server_said(self, kind: str) -> None:
        if kind == "lifespan.shutdown":
            self.shutdown_asked = True

    def inner_sends(self, kind: str) -> OnSend:
        if not kind.startswith("lifespan.") or not self.took_startup:
            self.spoke_foreign = True
            return OnSend.REFUSE_FOREIGN
        if self.failed or self.done:
            return OnSend.REFUSE_REPEATED
        match kind:
            case "lifespan.startup.complete" if self.started:
                return OnSend.REFUSE_REPEATED
            case "lifespan.startup.complete":
                self.started = True
                return OnSend.START_INCLUDED_THEN_FORWARD
            case "lifespan.startup.failed":
                self.failed = True
                return OnSend.CLOSE_THEN_FORWARD
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                self.done = True
                self.stop_failed = kind.endswith("failed")
                if self.called_off:
                    return OnSend.NOTE
                return OnSend.CLOSE_THEN_FORWARD
        return OnSend.FORWARD

    def inner_ended(self, *, raised: bool) -> Ending:
        if self.failed:
            return Ending.REFUSED_TO_START
        if self.called_off:
            return Ending.CALLED_OFF
        if self.done:
            return Ending.REFUSED_TO_STOP if self.stop_failed else Ending.FINISHED
        if self.started:
            return Ending.LEFT_EARLY
        # An application that raises before it looked at the startup message (Django), returns, or
        # answers with HTTP messages has no lifespan. One that took the message and raised has one,
        # and it is broken: the specification lets servers go on, users want to know.
        if raised and self.took_startup and not self.spoke_foreign:
            return Ending.CRASHED_IN_STARTUP
        return Ending.UNSUPPORTED
