"""Applications mounted in one another: frameworks do not run the inner lifespan, `include` does."""

from __future__ import annotations

import pytest

from tests.frameworks.adapters import each
from tests.frameworks.life import Life, client, running
from tests.frameworks.parts import Framework, Parts

with_mounts = each(lambda framework: framework.has_mounts)


class Mounted:
    """The startup and shutdown code of a mounted application, with a failure where one is asked."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.startup_fails: Exception | None = None

    async def startup(self) -> None:
        self._life.story.append("mounted startup code")
        assert await self._life.User.query.count() == 1
        if self.startup_fails is not None:
            raise self.startup_fails

    async def shutdown(self) -> None:
        self._life.story.append("mounted shutdown code")
        assert await self._life.User.query.count() == 1

    def parts(self) -> Parts:
        return self._life.parts(startup=self.startup, shutdown=self.shutdown)


@with_mounts
async def test_a_mounted_application_lives_inside_the_outer_one(
    framework: Framework, database_url: str
) -> None:
    """Mounted, it starts after the outer application and stops before it, once."""
    life = Life(database_url)
    mounted = framework.app(Mounted(life).parts())
    app = life.models.asgi(framework.with_mounted(life.parts(), mounted), include=[mounted])

    async def serve() -> None:
        async with client(app) as http:
            for path in ("/users", "/mounted/users"):
                assert (await http.get(path)).json() == ["ada"]

    assert await life.live(app, serve=serve) is None
    assert life.story == [
        "lifespan.startup, disconnected",
        "startup code",
        "mounted startup code",
        "lifespan.startup.complete, connected",
        "lifespan.shutdown, connected",
        "mounted shutdown code",
        "shutdown code",
        "lifespan.shutdown.complete, disconnected",
    ]


@with_mounts
async def test_not_included_a_mounted_application_does_not_start(
    framework: Framework, sqlite_url: str
) -> None:
    """If this fails, the framework runs it, and including it would run it twice."""
    life = Life(sqlite_url)
    mounted = framework.app(Mounted(life).parts())

    async with running(life.models.asgi(framework.with_mounted(life.parts(), mounted))) as http:
        assert (await http.get("/mounted/users")).json() == ["ada"]

    assert life.story == ["startup code", "shutdown code"]


@with_mounts
async def test_a_mounted_application_that_cannot_start_takes_the_outer_one_down(
    framework: Framework, database_url: str
) -> None:
    """The server hears of it once, after both are down and disconnected."""
    life = Life(database_url)
    inner = Mounted(life)
    inner.startup_fails = failure = KeyError("no templates")
    mounted = framework.app(inner.parts())
    app = life.models.asgi(framework.with_mounted(life.parts(), mounted), include=[mounted])

    error = await life.live(app)

    assert life.story == [
        "lifespan.startup, disconnected",
        "startup code",
        "mounted startup code",
        "shutdown code",
        "lifespan.startup.failed, disconnected",
    ]
    assert framework.made_of(failure, error)
    assert "no templates" in life.said[0]["message"]


@with_mounts
@pytest.mark.parametrize("handle_lifespan", [True, False])
async def test_it_may_be_mounted_in_an_application_whose_lifespan_is_handled(
    framework: Framework, handle_lifespan: bool, sqlite_url: str
) -> None:
    """`handle_lifespan` speaks of the outer application only."""
    life = Life(sqlite_url)
    await life.prepare()
    mounted = framework.app(Mounted(life).parts())
    outer = framework.with_mounted(Parts(life.User), mounted)
    app = life.models.asgi(outer, handle_lifespan=handle_lifespan, include=[mounted])

    async with running(app) as http:
        assert (await http.get("/mounted/users")).json() == ["ada"]

    assert life.story == ["mounted startup code", "mounted shutdown code"]
