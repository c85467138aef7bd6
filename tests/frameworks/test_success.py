"""A life without trouble: the same order, the same state and the same ends in every framework."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from asgi_dbconn import Registry
from tests.frameworks.adapters import each, with_lifespan, without_lifespan
from tests.frameworks.life import GOOD_LIFE, SILENT_LIFE, Life, client, running
from tests.frameworks.parts import Framework


@with_lifespan
async def test_its_own_startup_and_shutdown_run_connected(
    framework: Framework, database_url: str
) -> None:
    """Scenarios 1 and 3."""
    life = Life(database_url)
    app = life.models.asgi(life.app(framework))

    async def serve() -> None:
        async with client(app) as http:
            assert (await http.get("/users")).json() == ["ada"]

    assert await life.live(app, serve=serve, state={}) is None
    assert life.story == list(GOOD_LIFE)


@without_lifespan
@pytest.mark.parametrize("handle_lifespan", [True, False])
async def test_an_application_without_a_lifespan_is_connected_all_its_life(
    framework: Framework, handle_lifespan: bool, database_url: str
) -> None:
    """Scenarios 2, 22 and 23."""
    life = Life(database_url)
    await life.prepare()
    app = life.models.asgi(handle_lifespan=handle_lifespan)(life.app(framework))

    async def serve() -> None:
        async with client(app) as http:
            assert (await http.get("/users")).json() == ["ada"]

    assert await life.live(app, serve=serve) is None
    assert life.story == list(SILENT_LIFE)


@with_lifespan
async def test_handled_for_it_an_application_never_sees_its_lifespan(
    framework: Framework, sqlite_url: str
) -> None:
    """Scenario 2."""
    life = Life(sqlite_url)
    app = life.models.asgi(handle_lifespan=True)(life.app(framework))

    assert await life.live(app) is None
    assert life.story == list(SILENT_LIFE)


@with_lifespan
async def test_the_poorest_scope_is_enough(framework: Framework, sqlite_url: str) -> None:
    """Scenario 5: test clients send neither `asgi` nor `state`."""
    life = Life(sqlite_url)

    assert await life.live(life.models.asgi(life.app(framework))) is None
    assert life.story == list(GOOD_LIFE)


@each(lambda framework: framework.yields_state)
async def test_its_state_reaches_the_server(framework: Framework, sqlite_url: str) -> None:
    """Scenarios 5 and 6: the application fills the server's own state."""
    life, state = Life(sqlite_url), dict[str, Any]()
    app = life.models.asgi(framework.app(life.parts(state={"greeting": "hello"})))

    assert await life.live(app, state=state) is None
    assert state == {"greeting": "hello"}


@each(lambda framework: framework.yields_state)
async def test_a_request_without_its_state_reaches_the_registry(
    framework: Framework, sqlite_url: str
) -> None:
    """Scenario 55: Esmerald takes the server's state from its requests."""
    life = Life(sqlite_url)
    app = life.models.asgi(framework.app(life.parts(state={"greeting": "hello"})))

    async with running(app) as http:
        greeting = (await http.get("/state")).json()
        assert greeting == ("hello" if framework.keeps_server_state else "no greeting")
        assert (await http.get("/users")).json() == ["ada"]


@each()
async def test_one_application_lives_twice(framework: Framework, database_url: str) -> None:
    """Scenario 48, on one loop."""
    life = Life(database_url)
    await life.prepare()
    app = life.models.asgi(life.app(framework))

    for _ in range(2):
        async with running(app) as http:
            assert life.models.is_connected
            assert (await http.get("/users")).json() == ["ada"]
        assert not life.models.is_connected

    lives = 2 if framework.has_lifespan else 0
    assert life.story == ["startup code", "shutdown code"] * lives


@each()
def test_a_test_client_may_be_entered_twice(framework: Framework, database_url: str) -> None:
    """Scenario 48, on a loop for each life."""
    life = Life(database_url)
    asyncio.run(life.prepare())
    app = life.models.asgi(life.app(framework))

    for _ in range(2):
        with TestClient(app) as http:
            assert life.models.is_connected
            assert http.get("/users").json() == ["ada"]
        assert not life.models.is_connected


@with_lifespan
async def test_counted_inside_and_outside_it_opens_and_closes_once(
    framework: Framework, database_url: str, opened_and_closed: list[str]
) -> None:
    """Scenario 50: wrapped twice, and `async with models` in its own lifespan."""
    life = Life(database_url)

    async def startup() -> None:
        await life.models.connect()
        await life.startup()

    async def shutdown() -> None:
        await life.models.disconnect()
        await life.shutdown()  # queries: the wrapper still counts

    app = framework.app(life.parts(startup=startup, shutdown=shutdown))

    assert await life.live(life.models.asgi(life.models.asgi(app))) is None

    assert life.story == list(GOOD_LIFE)
    assert opened_and_closed == ["connected", "disconnected"]


@each(lambda framework: framework.has_hooks)
async def test_enter_and_exit_are_awaited_as_hooks(framework: Framework, database_url: str) -> None:
    """Scenario 52."""
    life = Life(database_url)
    app = framework.with_hooks(
        life.parts(),
        [life.models.__aenter__, life.startup],
        [life.shutdown, life.models.__aexit__],
    )

    async def serve() -> None:
        async with client(app) as http:
            assert (await http.get("/users")).json() == ["ada"]

    assert await life.live(app, serve=serve) is None
    assert life.story == list(GOOD_LIFE)


@each()
def test_its_attributes_are_found_on_the_wrapper(framework: Framework, sqlite_url: str) -> None:
    """Scenario 54: live, not as they were when it was wrapped."""
    models = Registry(sqlite_url)
    inner = Life(sqlite_url).app(framework)
    app = models.asgi(inner)

    for value in (True, False):
        setattr(inner, framework.attribute, value)
        assert getattr(app, framework.attribute) is value
    assert not hasattr(app, "no_framework_has_this")
