"""The table of ``run_sync``, without a loop."""

from __future__ import annotations

import pytest

from asgi_dbconn.loops.loop_state import LoopState, Situation, Way, decide

S = LoopState
ROWS = [
    (Situation(is_future=True, is_done=True, loop=S.CLOSED), Way.TAKE_RESULT),
    (Situation(is_future=True, is_done=True, loop=S.BLOCKED), Way.TAKE_RESULT),
    (Situation(is_future=True, loop=S.BLOCKED), Way.REFUSE_DEADLOCK),
    (Situation(is_future=True, loop=S.RUNNING), Way.HAND_OVER),
    (Situation(is_future=True, loop=S.IDLE), Way.DRIVE),
    (Situation(is_future=True, loop=S.CLOSED), Way.REFUSE_CLOSED),
    (Situation(loop=S.NONE), Way.PRIVATE_LOOP),
    (Situation(loop=S.CLOSED), Way.REFUSE_CLOSED),
    (Situation(loop=S.BLOCKED), Way.SUBLOOP),
    (Situation(loop=S.RUNNING), Way.HAND_OVER),
    (Situation(loop=S.OURS_ELSEWHERE), Way.PROMOTE),
    (Situation(loop=S.IDLE), Way.DRIVE),
    (Situation(loop=S.BLOCKED, depth=15), Way.SUBLOOP),
    (Situation(loop=S.BLOCKED, depth=16), Way.REFUSE_DEPTH),
    (Situation(loop=S.NONE, depth=16), Way.REFUSE_DEPTH),
]


@pytest.mark.parametrize(("situation", "way"), ROWS)
def test_the_first_row_that_applies_counts(situation: Situation, way: Way) -> None:
    assert decide(situation) is way


def test_every_way_is_shown() -> None:
    assert {way for _, way in ROWS} == set(Way)
