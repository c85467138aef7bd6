"""``asgi-dbconn demo``: serve the application that comes with the package."""

from __future__ import annotations

import click

from asgi_dbconn.demo.server import serve

__all__ = ["demo"]


@click.command()
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to bind."
)
@click.option(
    "--port",
    metavar="NUMBER",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to bind; 0 is a free one.",
)
def demo(host: str, port: int) -> None:
    """Serve a small notes application.

    Its SQLite files are temporary. NOTES_DATABASE_URL and AUDIT_DATABASE_URL name databases to use
    instead. Ctrl-C ends it.
    """
    serve(host, port)
