"""The reference count, decided without a loop."""

from __future__ import annotations

import random

import pytest

from asgi_dbconn.databases.reference_count import Lead, Leases, State, Wait


def opened() -> Leases:
    leases = Leases()
    assert leases.take() == Lead()
    leases.opened()
    return leases


def test_the_first_connect_leads_and_the_next_only_count() -> None:
    leases = opened()

    assert leases.take() is None
    assert (leases.state, leases.count) == (State.OPEN, 2)


def test_only_the_last_disconnect_closes() -> None:
    leases = opened()
    leases.take()

    assert leases.give_back(force=False) is None
    assert (leases.state, leases.count) == (State.OPEN, 1)
    assert leases.give_back(force=False) == Lead()
    assert (leases.state, leases.count) == (State.DRAINING, 0)
    leases.closed()
    assert (leases.state, leases.count) == (State.CLOSED, 0)


def test_force_closes_whatever_the_count() -> None:
    leases = opened()
    leases.take()

    assert leases.give_back(force=True) == Lead()
    assert leases.count == 0


def test_a_surplus_disconnect_does_nothing() -> None:
    leases = Leases()

    assert leases.give_back(force=False) is None
    assert leases.give_back(force=True) is None
    assert (leases.state, leases.count) == (State.CLOSED, 0)


def test_those_who_come_during_a_change_wait_for_its_outcome() -> None:
    leases = Leases()
    leases.take()
    waiting = [leases.take(), leases.take(), leases.give_back(force=False)]

    outcome = leases.opened()

    assert waiting == [Wait(outcome)] * 3
    assert leases.count == 1


def test_a_failed_connect_holds_nothing_and_the_next_leads() -> None:
    leases = Leases()
    leases.take()

    leases.failed()

    assert (leases.state, leases.count) == (State.CLOSED, 0)
    assert leases.take() == Lead()


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_calls_keeps_the_count_honest(seed: int) -> None:
    chance = random.Random(seed)
    leases, held = Leases(), 0
    for _ in range(500):
        if chance.random() < 0.5:
            match leases.take():
                case Lead():
                    leases.opened()
                    held = 1
                case None:
                    held += 1
                case Wait():
                    pytest.fail("nobody leads")
        elif leases.give_back(force=False) == Lead():
            leases.closed()
            held = 0
        else:
            held = max(held - 1, 0)
        assert leases.count == held
        assert (leases.state is State.OPEN) == (held > 0)
