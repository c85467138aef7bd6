"""Virtual environments for what cannot be installed beside the rest: made once, and kept."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "EnvironmentFailure", "environment"]

ROOT: Final = Path(__file__).parents[2]


class EnvironmentFailure(Exception):
    """The environment could not be made; the text is what the installer said."""


def environment(name: str, requirements: Sequence[str], *, with_project: bool) -> Path:
    """The interpreter of an environment with these requirements, made where it is missing.

    Made again when they change, or the Python version, or the project's own requirements if it is
    installed there, too (editable). Without the project nothing but `requirements` is installed,
    not even what they ask for. Several test runs may ask at once; one makes it, the others wait.
    """
    folder = ROOT / ".venvs" / "{}-{}.{}".format(name, *sys.version_info)
    python, stamp = folder / "bin/python", folder / ".made-from"
    wanted = _digest([sys.version, *requirements, *(_own_requirements() if with_project else ())])
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            project = ["--editable", str(ROOT)] if with_project else ["--no-deps"]
            _run([*pip, *project, *requirements])
            stamp.write_text(wanted)
    return python


def _own_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [str(dependency) for dependency in project["dependencies"]]


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _run(command: Sequence[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ran.returncode != 0:
        raise EnvironmentFailure(f"{' '.join(command)}\n{ran.stdout}\n{ran.stderr}")
