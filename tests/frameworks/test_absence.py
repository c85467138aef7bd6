"""Requests that come without a lifespan, and middleware that a framework keeps it from."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from starlette.testclient import TestClient

from asgi_dbconn import DatabaseNotConnectedWarning
from tests.frameworks.adapters import each
from tests.frameworks.life import GOOD_LIFE, Life, client, running
from tests.frameworks.parts import Framework, Parts


def about_the_lifespan(caught: list[warnings.WarningMessage]) -> list[str]:
    """The warnings of the middleware; the unconnected queries warn as well."""
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if "without a lifespan" in text]


@each()
async def test_the_first_request_warns_and_all_are_answered(
    framework: Framework, database_url: str
) -> None:
    """Scenario 45."""
    life = Life(database_url)
    await life.prepare()

    async with client(life.models.asgi(life.app(framework))) as http:
        with pytest.warns(DatabaseNotConnectedWarning) as caught:
            for _ in range(3):
                assert (await http.get("/users")).json() == ["ada"]

    assert len(about_the_lifespan(list(caught))) == 1
    assert not life.story


@each()
async def test_twenty_first_requests_connect_once(
    framework: Framework, sqlite_url: str, opened_and_closed: list[str]
) -> None:
    """Scenario 46."""
    life = Life(sqlite_url)
    await life.prepare()
    app = life.models.asgi(life.app(framework), without_lifespan="connect")
    opened_and_closed.clear()

    async with client(app) as http:
        answers = await asyncio.gather(*(http.get("/users") for _ in range(20)))

    assert {tuple(answer.json()) for answer in answers} == {("ada",)}
    assert opened_and_closed == ["connected"]


@each()
def test_a_test_client_without_its_block_is_served_and_leaves_nothing(
    framework: Framework, database_url: str
) -> None:
    """Scenario 47: a new loop for each request."""
    life = Life(database_url)
    asyncio.run(life.prepare())
    http = TestClient(life.models.asgi(life.app(framework), without_lifespan="connect"))

    for _ in range(5):
        assert http.get("/users").json() == ["ada"]
        assert not life.models.is_connected


@each(lambda framework: framework.middleware_sees_lifespan is True)
async def test_as_middleware_it_does_all_that_the_wrapper_does(
    framework: Framework, database_url: str
) -> None:
    """Scenario 53."""
    life = Life(database_url)
    for form, app in framework.with_middleware(life.parts(), life.models).items():
        life.story.clear()

        async def serve(app: object = app) -> None:
            async with client(app) as http:
                assert (await http.get("/users")).json() == ["ada"]

        assert await life.live(app, serve=serve) is None, form
        assert life.story == list(GOOD_LIFE), form


@each(lambda framework: framework.middleware_sees_lifespan is False)
async def test_middleware_that_sees_no_lifespan_says_so(
    framework: Framework, sqlite_url: str
) -> None:
    """Scenario 53: there is a lifespan, and the framework keeps it to itself."""
    life = Life(sqlite_url)
    await life.prepare()

    for app in framework.with_middleware(Parts(life.User), life.models).values():
        async with running(app) as http:
            assert not life.models.is_connected
            with pytest.warns(DatabaseNotConnectedWarning) as caught:
                for _ in range(3):
                    assert (await http.get("/users")).json() == ["ada"]

        (text,) = about_the_lifespan(list(caught))
        assert "models.asgi(app)" in text


@each(lambda framework: framework.middleware_sees_lifespan is False)
async def test_middleware_that_sees_no_lifespan_can_connect_at_the_first_request(
    framework: Framework, sqlite_url: str, opened_and_closed: list[str]
) -> None:
    """Scenarios 46 and 53."""
    life = Life(sqlite_url)
    await life.prepare()
    opened_and_closed.clear()
    forms = framework.with_middleware(Parts(life.User), life.models, without_lifespan="connect")

    for app in forms.values():
        async with running(app) as http:
            for _ in range(3):
                assert (await http.get("/users")).json() == ["ada"]

    assert opened_and_closed == ["connected"]
