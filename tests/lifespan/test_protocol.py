"""The lifespan protocol as decisions, without a loop."""

from __future__ import annotations

import pytest

from asgi_dbconn.lifespan.protocol import Ending, LifespanProtocol, OnReceive, OnSend


def started() -> LifespanProtocol:
    conversation = LifespanProtocol()
    assert conversation.on_inner_receive() is OnReceive.REPLAY_STARTUP
    complete = conversation.on_inner_send("lifespan.startup.complete")
    assert complete is OnSend.START_INCLUDED_THEN_FORWARD
    return conversation


def test_the_startup_message_is_replayed_once_and_then_the_server_is_asked() -> None:
    conversation = LifespanProtocol()

    assert conversation.on_inner_receive() is OnReceive.REPLAY_STARTUP
    assert conversation.on_inner_receive() is OnReceive.ASK_SERVER
    assert conversation.on_inner_receive() is OnReceive.ASK_SERVER


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("lifespan.shutdown.complete", Ending.FINISHED),
        ("lifespan.shutdown.failed", Ending.REFUSED_TO_STOP),
    ],
)
def test_the_last_word_waits_for_the_clean_up(kind: str, ending: Ending) -> None:
    conversation = started()
    conversation.on_server_message("lifespan.shutdown")

    assert conversation.on_inner_send(kind) is OnSend.CLOSE_THEN_FORWARD
    assert conversation.on_inner_receive() is OnReceive.REFUSE
    assert conversation.on_inner_send(kind) is OnSend.REFUSE_REPEATED
    assert conversation.on_inner_end(raised=False) is ending


def test_a_refused_start_cleans_up_first() -> None:
    conversation = LifespanProtocol()
    conversation.on_inner_receive()

    assert conversation.on_inner_send("lifespan.startup.failed") is OnSend.CLOSE_THEN_FORWARD
    assert conversation.on_inner_receive() is OnReceive.REFUSE
    assert conversation.on_inner_end(raised=True) is Ending.REFUSED_TO_START
    assert conversation.on_inner_end(raised=False) is Ending.REFUSED_TO_START


def test_startup_is_completed_once() -> None:
    assert started().on_inner_send("lifespan.startup.complete") is OnSend.REFUSE_REPEATED


@pytest.mark.parametrize("took_startup", [True, False])
@pytest.mark.parametrize("raised", [True, False])
def test_an_application_that_answers_in_http_has_no_lifespan(
    took_startup: bool, raised: bool
) -> None:
    conversation = LifespanProtocol()
    if took_startup:
        conversation.on_inner_receive()

    assert conversation.on_inner_send("http.response.start") is OnSend.REFUSE_FOREIGN
    assert conversation.on_inner_end(raised=raised) is Ending.UNSUPPORTED


def test_speaking_before_listening_is_not_a_lifespan() -> None:
    conversation = LifespanProtocol()

    assert conversation.on_inner_send("lifespan.startup.complete") is OnSend.REFUSE_FOREIGN
    assert conversation.on_inner_end(raised=True) is Ending.UNSUPPORTED


@pytest.mark.parametrize(
    ("took_startup", "raised", "ending"),
    [
        (False, True, Ending.UNSUPPORTED),  # Django
        (False, False, Ending.UNSUPPORTED),  # `if scope["type"] == "http": ...`
        (True, False, Ending.UNSUPPORTED),
        (True, True, Ending.CRASHED_IN_STARTUP),
    ],
)
def test_ending_without_a_word(took_startup: bool, raised: bool, ending: Ending) -> None:
    conversation = LifespanProtocol()
    if took_startup:
        conversation.on_inner_receive()

    assert conversation.on_inner_end(raised=raised) is ending


@pytest.mark.parametrize("raised", [True, False])
def test_leaving_in_the_middle_of_life(raised: bool) -> None:
    assert started().on_inner_end(raised=raised) is Ending.LEFT_EARLY
