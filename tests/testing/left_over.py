"""What TestDatabase has made from one original and not removed, on a server or in a folder."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from tests.support.postgres import PostgresServer

_numbers = itertools.count(1)


def new_name() -> str:
    """Of an original that does not exist, so that other runs on the same server have others."""
    return f"shop_{os.getpid()}_{next(_numbers)}"


def databases_made_from(postgres: PostgresServer, original: str) -> list[str]:
    rows = postgres.fetch("SELECT datname FROM pg_database ORDER BY 1")
    return [row["datname"] for row in rows if original in row["datname"]]


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
