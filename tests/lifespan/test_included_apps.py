"""Mounted applications: their lifespans run inside ours, in order, and stop in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_dbconn import LifespanMiddleware
from asgi_dbconn.testing import LifespanDriver
from asgi_dbconn.testing.conformance.harness import (
    COMPLETE,
    GOOD_LIFE,
    STARTUP,
    LifespanHarness,
    polite,
)


def part(story: list[str], name: str, **fails: bool) -> Starlette:
    """An application that notes its life, and fails at the points named."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        if fails.get("start"):
            raise KeyError(f"{name} cannot start")
        story.append(f"{name} up")
        yield {"name": name}
        story.append(f"{name} down")
        if fails.get("stop"):
            raise KeyError(f"{name} cannot stop")

    return Starlette(lifespan=lifespan)


async def live(
    stage: LifespanHarness, app: Any, include: list[Any], **options: Any
) -> BaseException | None:
    wrapped = LifespanMiddleware(app, stage.resource, include=include, **options)
    try:
        await wrapped({"type": "lifespan", "state": {}}, stage.receive, stage.send)
    except Exception as error:
        return error
    return None


async def test_they_start_in_order_and_stop_in_reverse() -> None:
    stage = LifespanHarness()
    story = stage.story

    assert await live(stage, part(story, "app"), [part(story, "one"), part(story, "two")]) is None

    stage.expect_story(
        "lifespan.startup", "open", "app up", "one up", "two up", "lifespan.startup.complete",
        "lifespan.shutdown", "two down", "one down", "app down", "closed",
        "lifespan.shutdown.complete",
    )  # fmt: skip


async def test_they_run_around_an_application_without_a_lifespan_too() -> None:
    async def django(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")

    for options in ({}, {"handle_lifespan": True}):
        stage = LifespanHarness()
        assert await live(stage, django, [part(stage.story, "one")], **options) is None
        stage.expect_story(
            "lifespan.startup", "open", "one up", "lifespan.startup.complete",
            "lifespan.shutdown", "one down", "closed", "lifespan.shutdown.complete",
        )  # fmt: skip


async def test_one_that_cannot_start_takes_down_those_before_it() -> None:
    stage = LifespanHarness(asks=[STARTUP])
    story = stage.story
    include = [part(story, "one"), part(story, "two", start=True), part(story, "three")]

    error = await live(stage, part(story, "app"), include)

    assert isinstance(error, KeyError)
    stage.expect_story(
        "lifespan.startup", "open", "app up", "one up", "one down", "app down", "closed",
        "lifespan.startup.failed",
    )  # fmt: skip
    stage.expect_message("two cannot start")


async def test_the_same_around_an_application_without_a_lifespan() -> None:
    stage = LifespanHarness(asks=[STARTUP])
    story = stage.story

    error = await live(
        stage,
        polite([]),
        [part(story, "one"), part(story, "two", start=True)],
        handle_lifespan=True,
    )

    assert isinstance(error, KeyError)
    stage.expect_story(
        "lifespan.startup", "open", "one up", "one down", "closed", "lifespan.startup.failed"
    )


async def test_one_that_cannot_stop_does_not_keep_the_others_up() -> None:
    stage = LifespanHarness()
    story = stage.story
    include = [part(story, "one"), part(story, "two", stop=True)]

    error = await live(stage, part(story, "app"), include)

    assert isinstance(error, KeyError)
    stage.expect_story(
        "lifespan.startup", "open", "app up", "one up", "two up", "lifespan.startup.complete",
        "lifespan.shutdown", "two down", "one down", "app down", "closed",
        "lifespan.shutdown.failed",
    )  # fmt: skip
    stage.expect_message("two cannot stop")


async def test_one_without_a_lifespan_is_let_be() -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("only http")

    stage = LifespanHarness()

    assert await live(stage, polite([]), [plain, part(stage.story, "one")]) is None

    stage.expect_story(
        "lifespan.startup", "open", "one up", "lifespan.startup.complete",
        "lifespan.shutdown", "one down", "closed", "lifespan.shutdown.complete",
    )  # fmt: skip


async def test_each_has_a_state_of_its_own() -> None:
    states: list[Any] = []

    def keeping(name: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope["state"]["name"] = name
            states.append(scope["state"])
            await polite([])(scope, receive, send)

        return app

    stage = LifespanHarness()
    await live(stage, keeping("app"), [keeping("one"), keeping("two")])

    assert [state["name"] for state in states] == ["app", "one", "two"]


async def test_one_that_hangs_in_its_shutdown_is_bounded() -> None:
    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await asyncio.Event().wait()

    stage = LifespanHarness()

    error = await live(stage, polite([]), [stuck], shutdown_timeout=0.05)

    assert isinstance(error, TimeoutError)
    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")


async def test_one_that_crashes_in_mid_life_is_logged_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crashing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await asyncio.sleep(0)
        raise KeyError("background job")

    stage = LifespanHarness(asks=[STARTUP])
    with caplog.at_level(logging.ERROR, "asgi_dbconn"):
        life = asyncio.create_task(live(stage, polite([]), [crashing]))
        await stage.waiting.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert "background job" in caplog.text
        assert stage.resource.is_open
        stage.ask("lifespan.shutdown")
        assert isinstance(await life, KeyError)
    stage.expect_story(*GOOD_LIFE[:-1], "lifespan.shutdown.failed")


async def test_a_cancelled_life_stops_them_too() -> None:
    stage = LifespanHarness(asks=[STARTUP])
    life = asyncio.create_task(live(stage, polite([]), [part(stage.story, "one")]))
    await stage.waiting.wait()

    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life

    assert stage.story[-2:] == ["one down", "closed"]


async def test_a_mounted_application_gets_its_lifespan() -> None:
    stage = LifespanHarness()
    api = part(stage.story, "api")
    parent = Starlette(routes=[Mount("/api", app=api)])

    async with LifespanDriver(LifespanMiddleware(parent, stage.resource, include=[api])):
        assert stage.story == ["open", "api up"]

    assert stage.story == ["open", "api up", "api down", "closed"]
