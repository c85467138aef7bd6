"""``asgi-dbconn shell``: Python with the models in scope, connected."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from typing import Any

import click

from asgi_dbconn.cli.console import run_source
from asgi_dbconn.cli.console_rest import run_console
from asgi_dbconn.cli.discovery_rest import Target
from asgi_dbconn.cli.lazy_group import imported
from asgi_dbconn.cli.names import names_in_scope
from asgi_dbconn.cli.selection import DEFAULT
from asgi_dbconn.cli.session import connected
from asgi_dbconn.registry.registry import Registry

__all__ = ["shell"]


@click.command()
@click.option("-c", "code", metavar="CODE", help="Run this, print what it gives, and end.")
@click.option(
    "--plain", is_flag=True, help="Python's own console, also where IPython is installed."
)
@click.option("--no-lifespan", is_flag=True, help="Do not run the application's own startup code.")
@click.pass_context
def shell(ctx: click.Context, *, code: str | None, plain: bool, no_lifespan: bool) -> None:
    """Open a Python shell with the models in scope, connected.

    `await User.query` and `run_sync(User.query.all())` both work. Ctrl-C interrupts a query,
    Ctrl-D leaves. Without a terminal the standard input is run instead.

    Exits with 1 if CODE, or what the standard input says, raises an error.
    """
    target: Target = ctx.obj
    names = names_in_scope(target.instance)
    went_well = True
    with connected(target.instance, lifespan=not no_lifespan):
        if code is not None:
            went_well = run_source(code, names, "<string>")
        elif not sys.stdin.isatty():
            went_well = run_source(sys.stdin.read(), names, "<stdin>")
        else:
            click.echo(_banner(target.registry, names))
            if plain or find_spec("IPython") is None:
                run_console(names)
            else:
                imported("asgi_dbconn.cli.ipython:run_ipython")(names)
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
