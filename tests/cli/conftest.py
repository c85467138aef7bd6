"""A folder for a user's project, empty or with a shop in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.project import SHOP, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("main.py", SHOP)
    return project
