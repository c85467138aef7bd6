"""The samples of the seed page that need no sync bridge run as they stand there."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable

import pytest

from asgi_dbconn import DatabaseNotConnectedWarning, Registry, monkay
from tests.connection_page import samples
from tests.connection_page.samples import Sample, make_user
from tests.support.lifespan import running

Make = Callable[[str], Sample]


@pytest.fixture(autouse=True)
def prepared(database_url: str) -> None:
    models = Registry(database_url)
    User = make_user(models)

    async def prepare() -> None:
        async with models:
            await models.create_all()
            await User.query.create(name="ada")

    asyncio.run(prepare())


@pytest.mark.parametrize(
    "make",
    [
        samples.using_asgi_integration,
        samples.manual_integration,
        samples.django_integration,
        samples.on_startup_and_on_shutdown,
    ],
)
async def test_an_application_of_the_page_serves_connected(database_url: str, make: Make) -> None:
    sample = make(database_url)

    async with running(sample.app) as client:
        assert sample.models.is_connected
        answer = await client.get("/users")

    assert answer.json() == ["ada"]
    assert not sample.models.is_connected
    assert monkay.instance is not None
    assert monkay.instance.registry is sample.models
    assert monkay.instance.app is sample.app


@pytest.mark.parametrize(
    "make", [samples.an_asynchronous_context_manager, samples.manual_enter_and_exit]
)
async def test_a_script_of_the_page_runs_connected(database_url: str, make: Make) -> None:
    sample = make(database_url)
    assert sample.main is not None

    with warnings.catch_warnings():
        warnings.simplefilter("error", DatabaseNotConnectedWarning)
        assert await sample.main() == ["ada"]

    assert not sample.models.is_connected
    assert monkay.instance is not None
    assert monkay.instance.registry is sample.models


async def test_the_page_is_right_that_unconnected_use_warns(database_url: str) -> None:
    User = make_user(Registry(database_url))

    with pytest.warns(DatabaseNotConnectedWarning):
        assert await User.query.count() == 1


async def test_echo_shows_statements_but_not_their_parameters(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Registry(database=database_url, echo=True)
    User = make_user(models)
    async with models:
        await User.query.create(name="a-very-private-name")

    shown = capsys.readouterr().out
    assert "INSERT INTO users" in shown
    assert "a-very-private-name" not in shown
