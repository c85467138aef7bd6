"""The code blocks of the documentation, found by their fences.

A block whose fence says ``python continued`` goes on where the Python blocks above it, up to the
last one that does not, have ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^```(?P<language>\w*)(?P<continued> continued)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> Iterator[Block]:
    for path in pages():
        text, above = path.read_text(), ""
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            code = f"{above}\n{match['code']}" if match["continued"] else match["code"]
            if match["language"] == "python":
                above = code
            yield Block(path, line, match["language"], code)
