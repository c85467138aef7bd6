"""``asgi-dbconn shell``: Python with the models in scope, connected, the application started."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from inspect import signature
from typing import Any

import click
from sqlalchemy import inspect, select

from asgi_dbconn.cli.db_options import DEFAULT
from asgi_dbconn.cli.discovery import AppReference
from asgi_dbconn.cli.lazy_group import import_object
from asgi_dbconn.cli.python_shell import run_console, run_source
from asgi_dbconn.instance import Instance, monkay
from asgi_dbconn.lifespan.driver import LifespanDriver
from asgi_dbconn.loops.managed_loop import ManagedLoop
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.orm.queryable import Queryable
from asgi_dbconn.registry.registry import Registry

__all__ = ["connect", "find_mapped_classes", "names_in_scope", "shell"]


def names_in_scope(instance: Instance) -> dict[str, Any]:
    """Return the models by name, then ``models``, ``app``, ``settings``, ``select``, ``run_sync``.

    A model with the name of one of the latter is hidden by it.
    """
    names: dict[str, Any] = dict(sorted(_models(instance.registry)))
    names["models"] = instance.registry
    if instance.app is not None:
        names["app"] = instance.app
    return names | {"settings": monkay.settings, "select": select, "run_sync": run_sync}


def find_mapped_classes(registry: Registry) -> list[type[Any]]:
    """Return every class that is mapped by now on a base of ``registry``."""
    found = dict.fromkeys(_subclasses_of(Queryable))
    return [
        subclass
        for subclass in found
        if getattr(subclass, "__dbconn__", (None,))[0] is registry
        and inspect(subclass, raiseerr=False) is not None
    ]


def _models(registry: Registry) -> Iterator[tuple[str, type[Any]]]:
    models = find_mapped_classes(registry)
    for model in models:
        # Two models of one name: the wrong one could be written to, so neither gets the name.
        is_alone = sum(other.__name__ == model.__name__ for other in models) == 1
        module = model.__module__.replace(".", "_")
        yield model.__name__ if is_alone else f"{module}_{model.__name__}", model


def _subclasses_of(base: type[Any]) -> Iterator[type[Any]]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses_of(subclass)


@contextmanager
def connect(instance: Instance, *, lifespan: bool) -> Iterator[None]:
    """Connect in the block, on a new loop for ``run_sync``, with the application's lifespan.

    The loop runs in a thread. So it goes on while the user types: background tasks of the
    application run, and an interrupted query is cancelled on the server immediately.
    """
    own = ManagedLoop()
    with ExitStack() as stack:
        stack.callback(own.close)
        own.start("shell")
        stack.enter_context(instance.registry.with_async_env(own.loop))
        app = instance.app
        if lifespan and app is not None and _is_asgi(app):
            driver = LifespanDriver(app)
            run_sync(driver.startup(), loop=own.loop)
            stack.callback(lambda: run_sync(driver.shutdown(), loop=own.loop))
        yield


def _is_asgi(app: Any) -> bool:
    # A WSGI application (Flask) takes two arguments, and has no lifespan.
    try:
        signature(app).bind("scope", "receive", "send")
    except (TypeError, ValueError):
        return False
    return True


@click.command()
@click.option("-c", "code", metavar="CODE", help="Run this, print its results, and end.")
@click.option(
    "--plain", is_flag=True, help="Use Python's own console, even if IPython is installed."
)
@click.option("--no-lifespan", is_flag=True, help="Do not run the application's own startup code.")
@click.pass_context
def shell(ctx: click.Context, *, code: str | None, plain: bool, no_lifespan: bool) -> None:
    """Open a Python shell with the models in scope, connected.

    `await User.query` and `run_sync(User.query.all())` both work. Ctrl-C interrupts a query,
    Ctrl-D leaves. Without a terminal the standard input is run instead.

    Exits with 1 if CODE, or the code from the standard input, raises an error.
    """
    app: AppReference = ctx.obj
    names = names_in_scope(app.instance)
    went_well = True
    with connect(app.instance, lifespan=not no_lifespan):
        if code is not None:
            went_well = run_source(code, names, "<string>")
        elif not sys.stdin.isatty():
            went_well = run_source(sys.stdin.read(), names, "<stdin>")
        else:
            click.echo(_banner(app.registry, names))
            if plain or find_spec("IPython") is None:
                run_console(names)
            else:
                import_object("asgi_dbconn.cli.ipython:run_ipython")(names)
    ctx.exit(0 if went_well else 1)


def _banner(registry: Registry, names: dict[str, Any]) -> str:
    width = max(len(name or DEFAULT) for name in registry.databases)
    urls = [
        f"{name or DEFAULT:{width}}  {database.url}"
        for name, database in registry.databases.items()
    ]
    lines = [
        f"asgi-dbconn shell on Python {platform.python_version()}; Ctrl-D leaves",
        *(f"{'' if number else 'databases':9}  {url}" for number, url in enumerate(urls)),
        f"{'in scope':9}  {', '.join(names)}",
    ]
    return "\n".join(lines)
