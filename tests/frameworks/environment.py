"""A virtual environment for a framework that cannot be installed beside the others."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


class EnvironmentFailure(Exception):
    """The environment could not be made; the text is what the installer said."""


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these requirements and this project, editable.

    Made once, and again when the requirements, the project's own ones or the Python version
    change. Several test runs may ask at once; one makes it and the others wait.
    """
    version = "{}.{}".format(*sys.version_info)
    folder = ROOT / ".venvs" / f"{name}-{version}"
    python, stamp = folder / "bin/python", folder / "requirements.sha256"
    wanted = _digest([sys.version, *requirements, *_own_requirements()])
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--editable", str(ROOT), *requirements])
            stamp.write_text(wanted)
    return python


def _own_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [str(each) for each in project["dependencies"]]


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _run(command: Sequence[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ran.returncode != 0:
        raise EnvironmentFailure(f"{' '.join(command)}\n{ran.stdout}\n{ran.stderr}")
