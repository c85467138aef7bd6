"""Tab completion and a history for the built-in shell, by Python's readline."""

from __future__ import annotations

import os
import rlcompleter
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

__all__ = ["history_file", "line_editing"]

_REMEMBERED: Final = 2000
"""Lines."""


@contextmanager
def line_editing(names: dict[str, Any]) -> Iterator[None]:
    """Let ``input()`` complete ``names`` in the block, and remember what was typed for next time.

    Without readline (Windows) it does neither.
    """
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_completer(rlcompleter.Completer(names).complete)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    path = history_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # a line may hold a secret
        readline.read_history_file(path)
    except OSError as error:
        sys.stderr.write(f"The history is not kept: {error}\n")
        yield
        return
    try:
        yield
    finally:
        readline.set_history_length(_REMEMBERED)
        readline.write_history_file(path)


def history_file() -> Path:
    """Return the path of the history, as the XDG base directories want it."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "asgi-dbconn", "shell_history")
