"""What ties an application to its databases stays a matter of a few lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.servers.watching import ROOT

EXAMPLES = sorted(ROOT.glob("examples/*_app.py"))

# Importing the registry, creating tables, and one or two lines for the application's life.
LINES_OF_OURS = 4
LINES_IN_ALL = 40


def lines_of(example: Path) -> list[str]:
    return [line for line in example.read_text().splitlines() if line.strip()]


def test_there_is_an_example_for_every_framework_we_name() -> None:
    assert [example.stem.removesuffix("_app") for example in EXAMPLES] == [
        "django",
        "esmerald",
        "fastapi",
        "flask",
        "hooks",
        "starlette",
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_few_lines_of_an_application_know_the_registry(example: Path) -> None:
    ours = [line for line in lines_of(example) if re.search(r"\bmodels\b", line)]
    assert 2 <= len(ours) <= LINES_OF_OURS, "\n".join(ours)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_at_a_glance(example: Path) -> None:
    assert len(lines_of(example)) <= LINES_IN_ALL


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_to_serve_it(example: Path) -> None:
    first = example.read_text().splitlines()[0]
    named = re.search(rf"`(?:uvicorn|gunicorn --threads 8) examples\.{example.stem}:(\w+)`", first)
    assert named, first
    assert re.search(rf"^{named[1]} = ", example.read_text(), re.MULTILINE)
