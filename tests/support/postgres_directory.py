"""Where the files of a PostgreSQL server of our own live for as long as it does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.postgres_install import RunAs

_MEMORY = Path("/dev/shm")
_ENOUGH_MEMORY = 2**30


def data_directory(account: RunAs) -> Path:
    """A new directory for data: in memory, where creating a database takes a fraction."""
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return program_directory(account)
    # Containers often have next to nothing there.
    if shutil.disk_usage(_MEMORY).free < _ENOUGH_MEMORY:
        return program_directory(account)
    return _private_directory(account, str(_MEMORY), *_usual())


def program_directory(account: RunAs) -> Path:
    """A new directory for programs, which could not be run in memory everywhere."""
    return _private_directory(account, *_usual())


def _usual() -> tuple[str, ...]:
    # The first one may itself be closed to the account, such as one below root's home.
    return (tempfile.gettempdir(), "/tmp", "/var/tmp")


def _private_directory(account: RunAs, *parents: str) -> Path:
    """A new directory that `account` owns and can reach."""
    for parent in parents:
        if not os.access(parent, os.W_OK | os.X_OK):
            continue
        directory = Path(tempfile.mkdtemp(prefix="asgi-dbconn-postgres-", dir=parent))
        if not account:
            return directory
        os.chown(directory, account["user"], account["group"])
        entered = subprocess.run(
            ["/bin/sh", "-c", 'cd "$1"', "sh", directory],
            stderr=subprocess.DEVNULL,
            check=False,
            cwd="/",
            **account,
        )
        if entered.returncode == 0:
            return directory
        directory.rmdir()
    raise RuntimeError(f"PostgreSQL can reach none of the temporary directories {parents}")
