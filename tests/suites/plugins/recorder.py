"""A pytest plugin that writes the outcome of every test into a JSON file.

Loaded in another project's test run, as a top-level module. It imports nothing of this project.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["notes"]

_WORST_LAST: Final = ("skipped", "passed", "failed")
_DRIVER: Final = re.compile(r"_(?:postgresql|sqlite)\+\w+?_async[\d_]*(?=::|$)")
"""Driver and server version, which SQLAlchemy appends to the names of its test classes."""

notes: dict[str, Any] = {}
"""Facts that other plugins want to have in the file."""
_outcomes: dict[str, str] = {}
_errors: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # Setting up and tearing down passes without a word; a test counts when it was called.
    if report.failed or report.skipped or report.when == "call":
        _record(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _record(report)


def _record(report: pytest.TestReport | pytest.CollectReport) -> None:
    name = _DRIVER.sub("", report.nodeid)
    _outcomes[name] = max(_outcomes.get(name, "skipped"), report.outcome, key=_WORST_LAST.index)
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = str(crash.message if crash is not None else report.longrepr)
        _errors[name] = text.strip().split("\n")[0][:300]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    contents = {"outcomes": _outcomes, "errors": _errors, "notes": notes}
    Path(os.environ["SUITES_OUTCOMES"]).write_text(json.dumps(contents))
