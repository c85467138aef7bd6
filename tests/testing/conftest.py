"""The sample project is run in processes of its own, by the tests beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

collect_ignore = ["sample-project"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, with nothing of another run in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder
