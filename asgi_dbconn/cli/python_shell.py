"""The built-in shell: Python's interactive console, with ``await`` at the top and completion."""

from __future__ import annotations
import __future__

import ast
import inspect
import os
import rlcompleter
import sys
import traceback
from code import InteractiveConsole
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import or_
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any, Final

from asgi_dbconn.loops.run_sync import run_sync

__all__ = [
    "ALLOW_AWAIT",
    "history_file",
    "line_editing",
    "run_code",
    "run_console",
    "run_source",
    "strip_our_frames",
]


ALLOW_AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FEATURES: Final = reduce(
    or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
"""The flags by which a ``from __future__ import`` of one statement affects those that follow."""


def run_source(source: str, names: dict[str, Any], filename: str) -> bool:
    """Run ``source`` statement by statement, and print the values of expressions.

    At the first error it stops, writes the error to the standard error output, and returns False.
    Only SystemExit and KeyboardInterrupt are raised.
    """
    flags = ALLOW_AWAIT
    try:
        tree = compile(source, filename, "exec", flags | ast.PyCF_ONLY_AST)
        for statement in tree.body:
            one = ast.Interactive([statement])
            code = compile(one, filename, "single", flags, dont_inherit=True)
            flags |= code.co_flags & _FEATURES
            run_code(code, names)
    except Exception as error:
        calling = strip_our_frames(error, filename)
        own = calling.tb_next if calling is not None else None
        traceback.print_exception(type(error), error, own)
        return False
    return True


def run_code(code: CodeType, names: dict[str, Any]) -> None:
    """Execute ``code``, on the loop if it awaits something."""
    if code.co_flags & inspect.CO_COROUTINE:
        run_sync(FunctionType(code, names)())
    else:
        exec(code, names)  # noqa: S102 - the purpose of a shell


def strip_our_frames(error: BaseException, filename: str) -> TracebackType | None:
    """Return the traceback of ``error`` from the frame on that calls the code from ``filename``.

    That code raised ``error``. In Python's own interpreter the traceback would be the same.
    """
    found = error.__traceback__
    while found is not None:
        below = found.tb_next
        if below is not None and below.tb_frame.f_code.co_filename == filename:
            return found
        found = below
    return error.__traceback__


_REMEMBERED: Final = 2000
"""Lines."""


@contextmanager
def line_editing(names: dict[str, Any]) -> Iterator[None]:
    """Let ``input()`` complete ``names`` in the block, and store the history at its end.

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
        sys.stderr.write(f"The history is not stored: {error}\n")
        yield
        return
    try:
        yield
    finally:
        readline.set_history_length(_REMEMBERED)
        readline.write_history_file(path)


def history_file() -> Path:
    """Return the path of the history, in the state folder of the XDG base directories."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "asgi-dbconn", "shell_history")


_FILENAME: Final = "<console>"


def run_console(names: dict[str, Any]) -> None:
    """Read and run lines until Ctrl-D or ``exit()``; Ctrl-C interrupts the line."""
    with line_editing(names):
        _Console(names, filename=_FILENAME).interact(banner="", exitmsg="")


class _Console(InteractiveConsole):
    def __init__(self, names: dict[str, Any], filename: str) -> None:
        super().__init__(names, filename)
        self._names = names
        self.compile.compiler.flags |= ALLOW_AWAIT

    def runcode(self, code: CodeType) -> None:
        try:
            run_code(code, self._names)
        except (SystemExit, KeyboardInterrupt):
            raise  # interact() handles these
        except BaseException as error:
            error.__traceback__ = strip_our_frames(error, _FILENAME)
            self.showtraceback()
