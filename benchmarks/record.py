"""Files for programs: every sample of a run, and what it was taken on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Comparison
from benchmarks.report import Outcome

__all__ = ["FOLDER", "machine", "versions", "write"]

FOLDER: Final = Path(__file__).parent / "results"
_PACKAGES: Final = (
    *("asgi-dbconn", "sqlalchemy", "asyncpg", "aiosqlite", "greenlet", "monkay"),
    *("anyio", "asgiref", "uvloop"),
)


def write(name: str, outcome: Outcome, *, quick: bool) -> Path:
    """Store ``outcome`` under the benchmark's name and the present time."""
    now = datetime.now(UTC)
    contents = {
        "benchmark": name,
        "date": now.isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "facts": outcome.facts,
        "comparisons": [_data(comparison) for comparison in outcome.comparisons],
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(contents, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """What the numbers depend on most; nothing that tells whose machine it is."""
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        # Somebody else's work shows here: it should be small before a run starts.
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str | None]:
    """The installed version of each package that takes part; None for one that is missing."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _data(comparison: Comparison) -> dict[str, Any]:
    contenders: Sequence[dict[str, Any]] = [
        {
            "name": name,
            "operations": measurement.operations,
            "wall": asdict(comparison.wall(name)) | {"samples": measurement.wall},
            "cpu": asdict(comparison.cpu(name)) | {"samples": measurement.cpu},
        }
        for name, measurement in comparison.measurements.items()
    ]
    return {
        "title": comparison.title,
        "baseline": comparison.baseline,
        "contenders": contenders,
    }
