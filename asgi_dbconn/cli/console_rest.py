"""The built-in shell: Python's own interactive console, with ``await`` allowed at the top."""

from __future__ import annotations

from code import InteractiveConsole
from types import CodeType
from typing import Any, Final

from asgi_dbconn.cli.console import ALLOW_AWAIT, run_code, without_our_frames
from asgi_dbconn.cli.line_editing import line_editing

__all__ = ["run_console"]

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
            raise  # interact() knows what to do
        except BaseException as error:
            error.__traceback__ = without_our_frames(error, _FILENAME)
            self.showtraceback()
