"""The start of the command, and the message about what is missing if it cannot start."""

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
    # Whatever way it was started, so that help, errors and shell completion call it the same.
    import_module("asgi_dbconn.cli.command").cli(prog_name="asgi-dbconn")
