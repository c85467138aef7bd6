"""The benchmarks run; what they find is for their own tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.__main__ import main
from benchmarks.middleware import OURS


@pytest.mark.server
def test_a_quick_run_prints_a_table_and_keeps_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "FOLDER", tmp_path)

    main(["middleware", "--quick"])

    assert OURS in capsys.readouterr().out
    (kept,) = tmp_path.glob("*.json")
    assert json.loads(kept.read_text())
