"""Another process that writes to a SQLite file, as another worker of the application does."""

from __future__ import annotations

import asyncio
import subprocess
import sys

__all__ = ["OtherProcess"]

_PROGRAM = """
import sqlite3, sys
for line in sys.stdin:
    path = line.rstrip("\\n")
    connection = sqlite3.connect(path, timeout=1, isolation_level=None)
    try:
        connection.execute("UPDATE probe SET writes = writes + 1")
        answer = "written"
    except sqlite3.OperationalError as error:
        answer = str(error)
    connection.close()
    print(answer, flush=True)
"""


class OtherProcess:
    """Writes to the table ``probe`` of a file when asked to, and waits a second for the lock."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def write(self, path: str) -> str:
        """Return ``"written"``, or the error of SQLite."""
        return await asyncio.to_thread(self._write, path)

    def close(self) -> None:
        self._process.communicate()

    def _write(self, path: str) -> str:
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise RuntimeError("the process has no pipes")
        requests.write(f"{path}\n")
        requests.flush()
        return answers.readline().rstrip("\n")
