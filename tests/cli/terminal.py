"""The command in a real terminal, typed into as a person does."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect

from tests.support.waiting import wait_until

# Colours, movements of the cursor, the title of the window.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>]|\r")

# COLUMNS and LINES would be believed more than the terminal itself.
_OTHERS = ("ASGI_DBCONN_", "NO_COLOR", "PYTHON", "XDG_", "IPYTHON", "COLUMNS", "LINES")

PLAIN_PROMPT = r"^>>> $"
IPYTHON_PROMPT = r"^In \[\d+\]: $"
CTRL_U = "\x15"


def environment(home: Path, **variables: str) -> dict[str, str]:
    """What the command sees: a home of its own, and nothing that the caller has chosen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    kept.pop("DATABASE_URL", None)
    home.mkdir(exist_ok=True)
    own = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "IPYTHONDIR": str(home / "ipython"),
        "TERM": "xterm",
        # Nobody here answers where the cursor is.
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    return {**kept, **own, **variables}


class Terminal:
    """Runs ``asgi-dbconn`` with ``args`` until the context is left; kills it if it still runs."""

    def __init__(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._raw = ""
        self._mark = 0
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "asgi_dbconn", *args],
            cwd=str(cwd),
            env=dict(env),
            encoding="utf-8",
            dimensions=(40, 120),
            timeout=10,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.close(force=True)

    @property
    def raw(self) -> str:
        """Everything that was written so far."""
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            while not self._child.closed:
                self._raw += self._child.read_nonblocking(65536, timeout=0)
        return self._raw

    @property
    def text(self) -> str:
        """The same as one reads it, without colours and movements."""
        return _ESCAPES.sub("", self.raw)

    @property
    def latest(self) -> str:
        """The text since something was last typed."""
        return self.text[self._mark :]

    def type(self, keys: str) -> None:
        """Press these keys, and no more: no Enter."""
        self._mark = len(self.text)
        self._child.send(keys)

    def line(self, line: str, prompt: str) -> str:
        """Type a line and Enter; what was written up to the next ``prompt``."""
        # Together with Enter it would look pasted, and IPython begins a second line.
        self.type(line)
        self.wait_for(re.escape(line.rpartition(" ")[2]))
        self.type("\r")
        return self.wait_for(prompt)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._mark = len(self.text)
        self._child.sendintr()

    def leave(self) -> int:
        """Press Ctrl-D; the exit code."""
        self._mark = len(self.text)
        self._child.sendeof()
        return self.ended()

    def wait_for(self, pattern: str, timeout: float = 20.0) -> str:
        """What was written since something was last typed, as soon as ``pattern`` is in it."""
        found = re.compile(pattern, re.MULTILINE)
        wait_until(
            lambda: found.search(self.latest) or not self._child.isalive(),
            timeout,
            message=lambda: f"{pattern!r} is written:\n{self.text}",
        )
        assert found.search(self.latest), f"ended without {pattern!r}:\n{self.text}"
        return self.latest

    def ended(self, timeout: float = 20.0) -> int:
        """The exit code, as soon as it has ended; the negative number of a signal."""
        # Who does not read keeps it from ending: a terminal takes only so much.
        wait_until(
            lambda: len(self.raw) and not self._child.isalive(),
            timeout,
            message=lambda: f"it has ended:\n{self.text}",
        )
        self._child.close()
        status, signal = self._child.exitstatus, self._child.signalstatus
        return status if status is not None else -(signal or 0)
