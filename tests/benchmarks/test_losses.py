"""Where a peer was faster, the table says so; the verdict follows from the samples."""

from __future__ import annotations

from benchmarks.bridges import AWAIT, OURS, THREADSAFE
from benchmarks.harness import Comparison, Measurement
from benchmarks.sync import FREE, NOTHING, Case, losses

CASE = Case(NOTHING, "worker", "asyncio", FREE)


def _took(**walls: list[float]) -> dict[Case, Comparison]:
    names = {"ours": OURS, "peer": THREADSAFE, "awaiting": AWAIT}
    measurements = {
        names[key]: Measurement(names[key], 1, wall=wall, cpu=wall) for key, wall in walls.items()
    }
    return {CASE: Comparison(CASE.title, THREADSAFE, measurements)}


def test_a_peer_that_was_faster_in_most_rounds_is_listed() -> None:
    (loss,) = losses(_took(ours=[2.0, 3.0, 1.0], peer=[1.0, 2.0, 2.0]))

    assert (loss.case, loss.ours, loss.peer) == (CASE, OURS, THREADSAFE)
    assert (loss.factor, loss.rounds_lost, loss.rounds) == (1.5, 2, 3)


def test_a_peer_that_was_not_faster_is_not_listed() -> None:
    assert not [*losses(_took(ours=[1.0, 1.0, 3.0], peer=[2.0, 1.0, 1.0]))]


def test_code_that_may_simply_await_is_no_peer() -> None:
    assert not [*losses(_took(ours=[2.0, 2.0], awaiting=[1.0, 1.0]))]
