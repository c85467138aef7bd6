"""The straight way onto an idle loop, without looking twice.

Most calls find their loop idle and its turn free, are in no other call, and wait for ever. For them
the table says "drive", and the route to it has no turnings. So the turn is taken first; who has it
sees the loop as it is, and need not look again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asgi_dbconn.loops.deadlines import NEVER
from asgi_dbconn.loops.deadlocks import Call
from asgi_dbconn.loops.idle_loops import drive_alone
from asgi_dbconn.loops.job import Job
from asgi_dbconn.loops.looking import look_from_outside
from asgi_dbconn.loops.loop_state import LoopState
from asgi_dbconn.loops.turns import turn_of

__all__ = ["goes_straight"]

Loop = asyncio.AbstractEventLoop


def goes_straight(job: Job[Any], loop: Loop, call: Call) -> bool:
    """Return whether ``loop`` was idle and its turn free; then the job has been done.

    For a thread in which no loop runs and that is inside of no other call.
    """
    if loop.is_running():
        return False
    turn = turn_of(loop)
    if not turn.take_now():
        return False
    try:
        if look_from_outside(loop) is not LoopState.IDLE:
            return False
        call.drives = loop
        drive_alone(loop, job, NEVER, turn)
    finally:
        call.drives = None
        turn.release()
    return True
