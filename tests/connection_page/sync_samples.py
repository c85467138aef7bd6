"""The samples of the page for synchronous code, completed in the same way as the others.

The page says `edgy.run_sync` where it means the function that it imports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from asgi_dbconn import Instance, Registry, monkay, run_sync
from tests.connection_page.samples import make_user


@dataclass
class SyncSample:
    """What a sample leaves behind for a test to use."""

    models: Registry
    results: list[Any]
    handle_request: Callable[[], list[Any]] | None = None
    app: Any = None


def an_environment(DATABASE: str) -> SyncSample:
    models = Registry(database=DATABASE, echo=True)
    User = make_user(models)

    # load settings
    monkay.evaluate_settings(ignore_import_errors=False)
    # monkey-patch app so you can use the shell
    monkay.set_instance(Instance(registry=models))

    def main() -> Any:
        with models.with_async_env():
            return run_sync(User.query.all())

    return SyncSample(models, [main()])


def a_loop_for_each_thread(DATABASE: str) -> SyncSample:
    models = Registry(database=DATABASE, echo=True)
    User = make_user(models)

    # multithreading safe
    event_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
        "event_loop", default=None
    )

    def handle_request() -> Any:
        loop = event_loop.get()
        if loop is None:
            # eventloops die by default with the thread
            loop = asyncio.new_event_loop()
            event_loop.set(loop)
        with models.with_loop(loop):
            return run_sync(User.query.all())

    def get_application() -> Any:
        app = handle_request
        # load settings
        monkay.evaluate_settings(ignore_import_errors=False)
        # monkey-patch app so you can use the shell
        monkay.set_instance(Instance(registry=models, app=app))
        return app

    app = get_application()
    return SyncSample(models, [], handle_request, app)


def a_loop_with_an_explicit_end(DATABASE: str) -> SyncSample:
    models = Registry(database=DATABASE, echo=True)
    User = make_user(models)

    # load settings
    monkay.evaluate_settings(ignore_import_errors=False)
    # monkey-patch app so you can use the shell
    monkay.set_instance(Instance(registry=models))

    loop = asyncio.new_event_loop()
    with models.with_loop(loop):
        first = run_sync(User.query.all())

    # uses the same loop
    with models.with_loop(loop):
        second = run_sync(User.query.all())

    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    return SyncSample(models, [first, second])
