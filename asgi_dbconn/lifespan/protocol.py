"""The lifespan protocol as decisions: how to treat each message, and each end of the application.

There is no I/O and no loop here. For the wrapped application ("inner") we are the server, and for
the server we are the application. So everything is connected from before inner's startup until
after its shutdown, even if one of them breaks the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["Ending", "LifespanProtocol", "OnReceive", "OnSend"]


class OnReceive(Enum):
    """The answer to inner's call of ``receive``."""

    REPLAY_STARTUP = auto()
    ASK_SERVER = auto()
    CALL_OFF = auto()  # a shutdown of ours: the startup fails for a reason outside of inner
    REFUSE = auto()  # the lifespan is over; waiting for ever would hang the shutdown


class OnSend(Enum):
    """The treatment of a message that inner sends."""

    FORWARD = auto()
    START_INCLUDED_THEN_FORWARD = auto()  # inner is ready; mounted applications come after it
    NOTE = auto()  # inner's last message in a startup that was called off; the server gets ours
    CLOSE_THEN_FORWARD = auto()  # the last message: servers cancel the code after it
    REFUSE_FOREIGN = auto()  # not a lifespan message, or before startup was received
    REFUSE_REPEATED = auto()  # servers assert on a second terminal message


class Ending(Enum):
    """The meaning of the end of inner's call, by returning or by raising."""

    FINISHED = auto()  # it has sent its last message
    REFUSED_TO_STOP = auto()  # inner has sent shutdown.failed
    CALLED_OFF = auto()  # inner was shut down before its startup was reported to the server
    REFUSED_TO_START = auto()  # inner has sent startup.failed
    CRASHED_IN_STARTUP = auto()  # it received the startup message and raised without an answer
    UNSUPPORTED = auto()  # it has no lifespan: we synthesise the events
    LEFT_EARLY = auto()  # it started and has ended, but the server goes on serving


@dataclass(slots=True)
class LifespanProtocol:
    """The state of one lifespan; a server may start several, one after another or per loop."""

    took_startup: bool = False
    started: bool = False
    failed: bool = False
    shutdown_requested: bool = False
    done: bool = False
    stop_failed: bool = False
    called_off: bool = False
    sent_foreign: bool = False

    def on_inner_receive(self) -> OnReceive:
        if not self.took_startup:
            self.took_startup = True
            return OnReceive.REPLAY_STARTUP
        if self.failed or self.done:
            return OnReceive.REFUSE
        return OnReceive.CALL_OFF if self.called_off else OnReceive.ASK_SERVER

    def on_server_message(self, kind: str) -> None:
        if kind == "lifespan.shutdown":
            self.shutdown_requested = True

    def on_inner_send(self, kind: str) -> OnSend:
        if not kind.startswith("lifespan.") or not self.took_startup:
            self.sent_foreign = True
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

    def on_inner_end(self, *, raised: bool) -> Ending:
        if self.failed:
            return Ending.REFUSED_TO_START
        if self.called_off:
            return Ending.CALLED_OFF
        if self.done:
            return Ending.REFUSED_TO_STOP if self.stop_failed else Ending.FINISHED
        if self.started:
            return Ending.LEFT_EARLY
        # An application has no lifespan if it raises before it receives the startup message
        # (Django), returns, or answers with HTTP messages. One that received the message and raised
        # has a broken one. The specification allows servers to go on, but users want to know.
        if raised and self.took_startup and not self.sent_foreign:
            return Ending.CRASHED_IN_STARTUP
        return Ending.UNSUPPORTED
