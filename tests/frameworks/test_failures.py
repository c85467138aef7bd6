"""A life that fails: the server hears it once, in words, and nothing stays connected."""

from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient

from asgi_dbconn import DatabaseUnavailable
from asgi_dbconn.testing import LifespanDriver
from tests.frameworks.adapters import each, with_lifespan
from tests.frameworks.life import GOOD_LIFE, Life
from tests.frameworks.parts import Framework
from tests.support.ports import LOOPBACK, free_port

PASSWORD = "not-for-the-log"
STARTUP_FAILED = (*GOOD_LIFE[:2], "lifespan.startup.failed, disconnected")
SHUTDOWN_FAILED = (*GOOD_LIFE[:-1], "lifespan.shutdown.failed, disconnected")


def nobody_answers() -> Life:
    url = f"postgresql://ada:{PASSWORD}@{LOOPBACK}:{free_port()}/notes"
    return Life(url, startup_timeout=0)


@each()
@pytest.mark.parametrize("handle_lifespan", [True, False])
async def test_without_its_database_it_is_not_started(
    framework: Framework, handle_lifespan: bool
) -> None:
    """Scenarios 8 and 9."""
    life = nobody_answers()
    app = life.models.asgi(life.app(framework), handle_lifespan=handle_lifespan)

    error = await life.live(app)

    assert isinstance(error, DatabaseUnavailable)
    assert life.story == ["lifespan.startup, disconnected", "lifespan.startup.failed, disconnected"]
    assert "Connect call failed" in life.said[0]["message"]
    assert PASSWORD not in life.said[0]["message"]


@each()
async def test_what_a_server_makes_of_a_failed_start_is_its_own(framework: Framework) -> None:
    """Scenario 12: hypercorn ends the start by raising in `send`."""
    life = nobody_answers()
    abort = RuntimeError("the server aborts")

    error = await life.live(life.models.asgi(life.app(framework)), send_fails=abort)

    assert error is abort


@with_lifespan
async def test_a_failed_startup_is_told_when_all_is_closed(
    framework: Framework, database_url: str
) -> None:
    """Scenarios 17 to 19 and 21: reported and raised, listened on after, or raised in silence."""
    life = Life(database_url)
    life.startup_fails = failure = KeyError("no templates")

    error = await life.live(life.models.asgi(life.app(framework)))

    assert life.story == list(STARTUP_FAILED)
    assert "no templates" in life.said[0]["message"]
    assert framework.made_of(failure, error)


@with_lifespan
async def test_a_server_that_aborts_a_failed_startup_gets_its_error_back(
    framework: Framework, sqlite_url: str
) -> None:
    """Scenario 12, where the start failed in the application."""
    life = Life(sqlite_url)
    life.startup_fails = KeyError("no templates")
    abort = RuntimeError("the server aborts")

    error = await life.live(life.models.asgi(life.app(framework)), send_fails=abort)

    assert error is abort
    assert life.story == list(STARTUP_FAILED)


@with_lifespan
async def test_a_failed_shutdown_is_told_when_all_is_closed(
    framework: Framework, database_url: str
) -> None:
    """Scenarios 28 and 29."""
    life = Life(database_url)
    life.shutdown_fails = failure = KeyError("the queue is full")

    error = await life.live(life.models.asgi(life.app(framework)))

    assert life.story == list(SHUTDOWN_FAILED)
    assert "the queue is full" in life.said[1]["message"]
    assert framework.made_of(failure, error)


@with_lifespan
async def test_the_driver_raises_why_it_did_not_start(
    framework: Framework, sqlite_url: str
) -> None:
    """Scenarios 17 to 19, as a test of an application meets them."""
    life = Life(sqlite_url)
    life.startup_fails = failure = KeyError("no templates")

    with pytest.raises(Exception) as caught:
        async with LifespanDriver(life.models.asgi(life.app(framework))):
            pytest.fail("it started")

    assert framework.made_of(failure, caught.value)
    assert not life.models.is_connected


@with_lifespan
async def test_the_driver_raises_why_it_did_not_stop(framework: Framework, sqlite_url: str) -> None:
    """Scenarios 28 and 29, as a test of an application meets them."""
    life = Life(sqlite_url)
    life.shutdown_fails = failure = KeyError("the queue is full")

    with pytest.raises(Exception) as caught:
        async with LifespanDriver(life.models.asgi(life.app(framework))):
            assert life.models.is_connected

    assert framework.made_of(failure, caught.value)
    assert not life.models.is_connected


@with_lifespan
def test_a_test_client_raises_and_does_not_hang(framework: Framework, database_url: str) -> None:
    """Scenario 18; and the same application starts when the reason has gone."""
    life = Life(database_url)
    life.startup_fails = failure = KeyError("no templates")
    app = life.models.asgi(life.app(framework))

    with pytest.raises(Exception) as caught:
        with TestClient(app):
            pytest.fail("it started")
    assert framework.made_of(failure, caught.value)
    assert not life.models.is_connected

    life.startup_fails = None
    with TestClient(app) as http:
        assert http.get("/users").json() == ["ada"]


@with_lifespan
async def test_cancelled_while_it_serves_it_disconnects(
    framework: Framework, database_url: str
) -> None:
    """Scenario 33: gunicorn and a second Ctrl-C cancel the lifespan."""
    life, serving = Life(database_url), asyncio.Event()

    async def serve() -> None:
        serving.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(life.live(life.models.asgi(life.app(framework)), serve=serve))
    await serving.wait()
    assert life.models.is_connected
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert not life.models.is_connected
