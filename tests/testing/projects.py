"""Projects in folders of their own, the sample above all, run by a pytest of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_until

__all__ = ["Project"]

_SAMPLE = Path(__file__).parent / "sample-project"
_COMMAND = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Project:
    folder: Path
    database_url: str
    """Of a database that need not exist."""

    @classmethod
    def copied_to(cls, folder: Path, database_url: str) -> Project:
        shutil.copytree(_SAMPLE, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
        return cls._ready(folder, database_url)

    @classmethod
    def written_to(cls, folder: Path, files: Mapping[str, str], database_url: str = "") -> Project:
        """Of nothing but these files."""
        for name, text in files.items():
            path = folder / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cls._ready(folder, database_url)

    @classmethod
    def _ready(cls, folder: Path, database_url: str) -> Project:
        for name in ("seen", "temporary"):
            (folder / name).mkdir()
        return cls(folder, database_url)

    @property
    def temporary(self) -> Path:
        """Its folder for temporary files."""
        return self.folder / "temporary"

    def seen(self) -> list[tuple[str, str]]:
        """Which worker had which database."""
        found = sorted(path.name.partition("-") for path in (self.folder / "seen").iterdir())
        return [(worker, name) for worker, _, name in found]

    def write_test(self, name: str, code: str) -> None:
        (self.folder / "project/tests" / name).write_text(code)

    def start(self, *args: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a terminal gives it."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
            "DATABASE_URL": self.database_url,
            "SEEN": str(self.folder / "seen"),
            "TMPDIR": str(self.temporary),
        }
        return subprocess.Popen(
            [*_COMMAND, f"--basetemp={self.folder / 'pytest'}", *args],
            cwd=self.folder / "project",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, args: Sequence[str], *, code: int = 0) -> str:
        """What it printed; AssertionError if it did not end with ``code``."""
        process = self.start(*args)
        try:
            output, _ = process.communicate(timeout=50)
        finally:
            process.kill()
        assert process.returncode == code, output
        return output

    def wait_for(self, name: str) -> None:
        """Until a test has written that file into the folder ``$SEEN``."""
        path = self.folder / "seen" / name
        wait_until(path.exists, 30, message=lambda: f"{name} has been written")
        path.unlink()
