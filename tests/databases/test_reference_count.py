"""The reference count, decided without a loop."""

from __future__ import annotations

import random

import pytest

from asgi_dbconn.databases.reference_count import Perform, ReferenceCount, State, Wait


def opened() -> ReferenceCount:
    leases = ReferenceCount()
    assert leases.acquire() == Perform()
    leases.note_opened()
    return leases


def test_the_first_connect_leads_and_the_next_only_count() -> None:
    leases = opened()

    assert leases.acquire() is None
    assert (leases.state, leases.count) == (State.OPEN, 2)


def test_only_the_last_disconnect_closes() -> None:
    leases = opened()
    leases.acquire()

    assert leases.release(force=False) is None
    assert (leases.state, leases.count) == (State.OPEN, 1)
    assert leases.release(force=False) == Perform()
    assert (leases.state, leases.count) == (State.DRAINING, 0)
    leases.note_closed()
    assert (leases.state, leases.count) == (State.CLOSED, 0)


def test_force_closes_whatever_the_count() -> None:
    leases = opened()
    leases.acquire()

    assert leases.release(force=True) == Perform()
    assert leases.count == 0


def test_a_surplus_disconnect_does_nothing() -> None:
    leases = ReferenceCount()

    assert leases.release(force=False) is None
    assert leases.release(force=True) is None
    assert (leases.state, leases.count) == (State.CLOSED, 0)


def test_those_who_come_during_a_change_wait_for_its_outcome() -> None:
    leases = ReferenceCount()
    leases.acquire()
    waiting = [leases.acquire(), leases.acquire(), leases.release(force=False)]

    outcome = leases.note_opened()

    assert waiting == [Wait(outcome)] * 3
    assert leases.count == 1


def test_a_failed_connect_holds_nothing_and_the_next_leads() -> None:
    leases = ReferenceCount()
    leases.acquire()

    leases.note_failed()

    assert (leases.state, leases.count) == (State.CLOSED, 0)
    assert leases.acquire() == Perform()


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_calls_keeps_the_count_honest(seed: int) -> None:
    chance = random.Random(seed)
    leases, held = ReferenceCount(), 0
    for _ in range(500):
        if chance.random() < 0.5:
            match leases.acquire():
                case Perform():
                    leases.note_opened()
                    held = 1
                case None:
                    held += 1
                case Wait():
                    pytest.fail("nobody leads")
        elif leases.release(force=False) == Perform():
            leases.note_closed()
            held = 0
        else:
            held = max(held - 1, 0)
        assert leases.count == held
        assert (leases.state is State.OPEN) == (held > 0)
