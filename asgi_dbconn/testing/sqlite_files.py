"""Test databases on SQLite: each file in a folder of its own, which is removed with it."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from asgi_dbconn.pools.dialects.sqlite import copy_file
from asgi_dbconn.testing.database_names import Mark
from asgi_dbconn.urls import DatabaseURL

__all__ = ["SQLiteFiles"]

_MARK: Final = "made-by"
_FILE: Final = "test.sqlite"

# Query parameters for opening the original; for a new file they would be wrong.
_ABOUT_THE_ORIGINAL: Final = frozenset({"mode", "cache", "vfs", "uri", "immutable", "nolock"})


class SQLiteFiles:
    """Test databases in the folder for temporary files; also for an original in memory.

    A memory database ends with its last connection, and the tables of a test run have to stay from
    one test to the next.
    """

    def __init__(self, url: DatabaseURL) -> None:
        self._url = url
        self._temporary = Path(tempfile.gettempdir())

    def url(self, name: str) -> DatabaseURL:
        stored = {
            key: value for key, value in self._url.query.items() if key not in _ABOUT_THE_ORIGINAL
        }
        return self._url.replace(database=str(self._folder(name) / _FILE), query=stored)

    async def make(self, name: str, template: str | None) -> None:
        """Create the file. Raises FileExistsError if the name is taken."""
        self._make(name, template)

    async def remove(self, name: str) -> None:
        """Remove the file with its journals; do nothing if it does not exist."""
        shutil.rmtree(self._folder(name), ignore_errors=True)

    async def remove_run(self, run: str) -> list[str]:
        """Remove the files that a run has left; return the names."""
        return [self._remove(folder) for folder, mark in self._find_marked() if mark.run == run]

    async def remove_old(self, older_than: float) -> list[str]:
        """Remove the files of at least that age; return the names."""
        now = time.time()
        return [
            self._remove(folder)
            for folder, mark in self._find_marked()
            if mark.is_left_over(older_than, now)
        ]

    def _make(self, name: str, template: str | None) -> None:
        folder = self._folder(name)
        folder.mkdir(mode=0o700)
        (folder / _MARK).write_text(Mark().text)
        (folder / _FILE).touch()
        if template is not None:
            copy_file(Path(template), folder / _FILE)

    def _folder(self, name: str) -> Path:
        return self._temporary / f"asgi_dbconn-{name}"

    def _find_marked(self) -> list[tuple[Path, Mark]]:
        found = []
        for path in sorted(self._temporary.glob(f"asgi_dbconn-*/{_MARK}")):
            try:
                mark = Mark.read(path.read_text())
            except OSError:  # it belongs to another user, or was removed just now
                continue
            if mark is not None:
                found.append((path.parent, mark))
        return found

    def _remove(self, folder: Path) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        return folder.name.partition("-")[2]
