"""The environment in which the incumbents run: databasez needs an older SQLAlchemy than ours.

The package itself is not installed there: it is imported from the checkout, and the checks and
`LifespanMiddleware` need nothing but the standard library and monkay.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["REQUIREMENTS", "ROOT", "python"]

ROOT: Final = Path(__file__).parents[3]
REQUIREMENTS: Final = {
    "monkay": "0.5.3",
    "databasez": "0.13.0",
    "asgi-lifespan-middleware": "0.1.3",
    # what databasez stands on
    "sqlalchemy": "2.0.58",
    "greenlet": "3.5.6",
    "orjson": "3.13.0",
    "typing-extensions": "4.16.0",
}


def python() -> Path:
    """The interpreter of the environment, which is made first where it is missing or outdated."""
    home = ROOT / ".venvs" / "incumbents-{}.{}".format(*sys.version_info)
    home.parent.mkdir(exist_ok=True)
    pins = [f"{name}=={version}" for name, version in REQUIREMENTS.items()]
    key = hashlib.sha256("\n".join([sys.version, *pins]).encode()).hexdigest()
    stamp, interpreter = home / ".made-from", home / "bin" / "python"
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once make it once
        if not stamp.exists() or stamp.read_text() != key:
            _do(sys.executable, "-m", "venv", "--clear", str(home))
            pip = (str(interpreter), "-m", "pip", "--quiet", "--disable-pip-version-check")
            _do(*pip, "install", "--no-deps", *pins)
            stamp.write_text(key)
    return interpreter


def _do(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}")
