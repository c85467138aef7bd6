"""The entry point of the command, with a message if its extra is not installed."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run ``asgi-dbconn``, or ``python -m asgi_dbconn``. Ends with an exit code."""
    if find_spec("click") is None:
        sys.stderr.write('asgi-dbconn needs click: pip install "asgi-dbconn[cli]"\n')
        sys.exit(2)
    # A fixed name, so that help, errors and shell completion do not depend on the way it started.
    import_module("asgi_dbconn.cli.command").cli(prog_name="asgi-dbconn")
