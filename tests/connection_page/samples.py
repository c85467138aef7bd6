"""The samples of the page this product honours, completed so that they run.

Only what the page leaves out is filled in: imports, `registry` is `models`, real routes, an `app`,
and the model that its queries speak of. `DATABASE` stands where the page says
"sqlite:///db.sqlite", so that the same samples run on every database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from esmerald import Esmerald, Gateway, JSONResponse, get
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Instance, Queryable, Registry, monkay


@dataclass
class Sample:
    """What a sample leaves behind for a test to use."""

    models: Registry
    app: Any = None
    main: Callable[[], Awaitable[Any]] | None = None


def make_user(models: Registry) -> Any:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    return User


def make_routes(User: Any) -> list[Any]:
    @get("/users")
    async def users() -> JSONResponse:
        return JSONResponse([user.name for user in await User.query.all()])

    return [Gateway(handler=users)]


def using_asgi_integration(DATABASE: str) -> Sample:
    models = Registry(database=DATABASE, echo=True)

    app = models.asgi(
        Esmerald(
            routes=make_routes(make_user(models)),
        )
    )

    # load settings
    monkay.evaluate_settings(ignore_import_errors=False)
    # monkey-patch app so you can use the shell
    monkay.set_instance(Instance(registry=models, app=app))
    return Sample(models, app)


def manual_integration(DATABASE: str) -> Sample:
    models = Registry(database=DATABASE, echo=True)

    @asynccontextmanager
    async def lifespan(app: Esmerald):  # type: ignore[no-untyped-def]
        async with models:
            yield

    app = Esmerald(
        routes=make_routes(make_user(models)),
        lifespan=lifespan,
    )
    # now required
    monkay.evaluate_settings()
    # monkey-patch app so you can use the shell
    monkay.set_instance(Instance(app=app, registry=models))
    return Sample(models, app)


def an_asynchronous_context_manager(DATABASE: str) -> Sample:
    models = Registry(database=DATABASE, echo=True)
    User = make_user(models)

    async def main() -> Any:
        # load settings
        monkay.evaluate_settings(ignore_import_errors=False)
        # monkey-patch so you can use the shell
        monkay.set_instance(Instance(registry=models))
        async with models:
            return [user.name for user in await User.query.all()]

    return Sample(models, main=main)


def django_integration(DATABASE: str) -> Sample:
    from django.core.asgi import get_asgi_application

    models = Registry(database=DATABASE, echo=True)
    # The view finds the model here; in a project it would import it.
    from tests.connection_page import django_project

    django_project.User = make_user(models)

    application = models.asgi(handle_lifespan=True)(get_asgi_application())

    # load settings
    monkay.evaluate_settings(ignore_import_errors=False)
    # monkey-patch app so you can use the shell
    monkay.set_instance(Instance(registry=models, app=application))
    return Sample(models, application)


def manual_enter_and_exit(DATABASE: str) -> Sample:
    models = Registry(database=DATABASE, echo=True)
    User = make_user(models)
    app = None

    async def main() -> Any:
        # load settings
        monkay.evaluate_settings(ignore_import_errors=False)
        # monkey-patch app so you can use the shell
        monkay.set_instance(Instance(app=app, registry=models))
        await models.__aenter__()
        try:
            return [user.name for user in await User.query.all()]
        finally:
            await models.__aexit__()

    return Sample(models, main=main)


def on_startup_and_on_shutdown(DATABASE: str) -> Sample:
    models = Registry(database=DATABASE, echo=True)

    app = Esmerald(
        routes=make_routes(make_user(models)),
        on_startup=[models.__aenter__],  # type: ignore[list-item]
        on_shutdown=[models.__aexit__],
    )
    # load settings
    monkay.evaluate_settings(ignore_import_errors=False)
    # monkey-patch app so you can use the shell
    monkay.set_instance(Instance(app=app, registry=models))
    return Sample(models, app)
