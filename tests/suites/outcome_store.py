"""Outcomes of plain runs, kept beside the sources, for who runs the same versions again."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from tests.suites import sources
from tests.suites.runner import Outcomes
from tests.suites.suite import Part, Suite

__all__ = ["load", "store"]


def load(suite: Suite, part: Part) -> Outcomes | None:
    """Return the outcomes of the last plain run with these versions, if there was one."""
    file = _file(suite, part)
    return Outcomes(**json.loads(file.read_text())) if file.exists() else None


def store(suite: Suite, part: Part, outcomes: Outcomes) -> None:
    """Keep the outcomes of a plain run."""
    file = _file(suite, part)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(outcomes)))


def _file(suite: Suite, part: Part) -> Path:
    project = f"{suite.project}-{version(suite.project)}"
    python = ".".join(map(str, sys.version_info[:3]))
    folder = f"{project}-python-{python}-sqlite-{sqlite3.sqlite_version}"
    return sources.FOLDER / "outcomes" / folder / f"{suite.name}-{part}.json"
