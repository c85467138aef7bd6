"""The demo as a user starts it: ``asgi-dbconn demo``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.servers import ServerProcess
from tests.support.waiting import wait_until

DATABASES: Final = {"NOTES_DATABASE_URL", "AUDIT_DATABASE_URL"}


class DemoProcess(ServerProcess):
    """Runs in ``folder / "work"`` with ``folder / "temporary"`` for its temporary files."""

    def __init__(
        self,
        folder: Path,
        *,
        args: Sequence[str] = ("--port", "0"),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.work = folder / "work"
        self.temporary = folder / "temporary"
        for folder in (self.work, self.temporary):
            folder.mkdir()
        env = {**(env or {}), "TMPDIR": str(self.temporary)}
        super().__init__("the demo", cwd=self.work, env=env, args=args)
        for name in DATABASES - env.keys():
            self._env.pop(name, None)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "asgi_dbconn", "demo", *self.args]

    def printed_commands(self) -> list[str]:
        """The lines to try, without the explanation behind them."""
        wait_until(lambda: "/audit" in self.log, 5, message=lambda: self.log)
        return re.findall(r"^(curl .+?) {3,}\w", self.log, re.MULTILINE)

    def files(self) -> set[str]:
        """The names of everything that it has written and not removed, anywhere we look."""
        found = {*self.work.rglob("*"), *self.temporary.rglob("*")}
        return {row.name for row in found}
