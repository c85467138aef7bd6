"""The samples of the seed page for synchronous code run as they stand there."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asgi_dbconn import DatabaseNotConnectedWarning, Registry, monkay, run_sync
from tests.connection_page import sync_samples
from tests.connection_page.samples import make_user
from tests.connection_page.sync_samples import SyncSample

Make = Callable[[str], SyncSample]


@pytest.fixture(autouse=True)
def prepared(database_url: str) -> Iterator[None]:
    models = Registry(database_url)
    User = make_user(models)
    with models.with_async_env():
        run_sync(models.create_all())
        run_sync(User.query.create(name="ada"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatabaseNotConnectedWarning)
        yield


@pytest.mark.parametrize(
    "make", [sync_samples.an_environment, sync_samples.a_loop_with_an_explicit_end]
)
def test_a_script_of_the_page_gets_its_answers(database_url: str, make: Make) -> None:
    sample = make(database_url)

    assert sample.results
    for users in sample.results:
        assert [user.name for user in users] == ["ada"]
    assert not sample.models.is_connected
    assert monkay.instance is not None
    assert monkay.instance.registry is sample.models


def test_the_page_connects_a_loop_once(database_url: str) -> None:
    sample = sync_samples.a_loop_with_an_explicit_end(database_url)

    assert sample.models.database.stats().connects == 1


def test_requests_of_the_page_are_answered_in_any_thread(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    make_loop = asyncio.new_event_loop

    def remembered() -> asyncio.AbstractEventLoop:
        loops.append(make_loop())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", remembered)
    sample = sync_samples.a_loop_for_each_thread(database_url)
    handle_request = sample.handle_request
    assert handle_request is not None
    answers: list[str] = []

    def serve() -> None:
        for _ in range(3):
            answers.extend(user.name for user in handle_request())

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for worker in threads:
        worker.join()

    assert answers == ["ada"] * 12
    assert len(loops) == 4
    assert sample.models.database.stats().connects == 4
    # Threads that end take nothing along on the page; here each loop is ended in good order.
    for loop in loops:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    assert not sample.models.is_connected


def test_the_page_is_right_that_other_loops_find_it_connected(database_url: str) -> None:
    models = Registry(database_url)
    User = make_user(models)

    async def count() -> Any:
        return await User.query.count()

    with models.with_async_env():
        assert asyncio.run(count()) == 1
