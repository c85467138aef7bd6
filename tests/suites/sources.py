"""Source distributions of other projects, in the versions that are installed here.

They are downloaded once, into a folder that Git ignores.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.suites.suite import REQUIREMENTS
from tests.support.environments import ROOT, EnvironmentFailure, environment

__all__ = ["FOLDER", "SourcesMissing", "interpreter", "source_of"]

FOLDER: Final = ROOT / ".suites"
_INSTALLED: Final = ("sqlalchemy", "starlette", "fastapi", "asyncpg", "aiosqlite")
"""Packages that the side environment has in the same version as this one."""


class SourcesMissing(Exception):
    """Something has to be downloaded and cannot be; the text says what."""


def source_of(project: str) -> Path:
    """Return the unpacked source distribution of the installed version of ``project``."""
    name = f"{project}-{version(project)}"
    folder = FOLDER / name
    if not folder.exists():
        FOLDER.mkdir(exist_ok=True)
        # Renamed when it is complete, so that a run that was interrupted leaves nothing half done.
        with tempfile.TemporaryDirectory(dir=FOLDER) as unfinished:
            archive = _download(project, Path(unfinished))
            with tarfile.open(archive) as contents:
                contents.extractall(unfinished, filter="data")
            (Path(unfinished) / name).rename(folder)
    return folder


def interpreter() -> Path:
    """Return the interpreter of the environment that has the tests' own requirements."""
    same = [f"{package}=={version(package)}" for package in _INSTALLED]
    try:
        return environment("suites", [*same, *REQUIREMENTS], with_project=True)
    except EnvironmentFailure as failure:
        raise SourcesMissing(
            "The environment of the suites cannot be made; it takes a package index, once:\n"
            f"{failure}"
        ) from failure


def _download(project: str, folder: Path) -> Path:
    requirement = f"{project}=={version(project)}"
    ran = _pip("download", "--no-deps", "--no-binary", project, "--dest", str(folder), requirement)
    archives = list(folder.glob("*.tar.gz"))
    if ran.returncode != 0 or len(archives) != 1:
        raise SourcesMissing(
            f"The source distribution of {requirement} cannot be downloaded; it takes a package "
            f"index, once. Or unpack it into {FOLDER.name}/ by hand. pip says:\n{ran.stderr}"
        )
    return archives[0]


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(
        [*command, "--quiet", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
