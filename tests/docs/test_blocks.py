"""Every code block runs as a program of its own, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs.blocks import ROOT, Block, blocks, pages

BLOCKS = list(blocks())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHON = [block for block in BLOCKS if block.language == "python"]
# An application of a block is served once, so that a block which only defines one is not idle.
SERVE = """
import asyncio as _asyncio
import inspect as _inspect
import wsgiref.util as _wsgi
async def _serve(app):
    told, said = _asyncio.Queue(), []
    async def send(message):
        said.append(message["type"])
    for event in ("startup", "shutdown"):
        told.put_nowait({"type": f"lifespan.{event}"})
    await app({"type": "lifespan", "state": {}}, told.get, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"], said
def _request(app):
    environ, said = {}, []
    _wsgi.setup_testing_defaults(environ)
    app(environ, lambda status, headers, exc_info=None: said.append(status))
    assert said and not said[0].startswith("5"), said
for _name in ("app", "application"):
    if _name in globals():
        _app = globals()[_name]
        if len(_inspect.signature(_app).parameters) == 2:  # WSGI: environ, start_response
            _request(_app)
        else:
            _asyncio.run(_serve(_app))
"""


def test_there_are_blocks_to_run() -> None:
    assert len(PYTHON) >= 8


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_block_runs(block: Block, tmp_path: Path) -> None:
    program = tmp_path / "block.py"
    program.write_text(block.code + SERVE)

    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "console"], ids=str
)
def test_a_console_block_names_commands_that_exist(block: Block) -> None:
    commands = [shlex.split(line[2:], comments=True) for line in block.code.splitlines() if line]
    assert commands
    for command in commands:
        match command:
            case ["make", *_]:
                # --dry-run resolves the target and everything that it needs, without doing it.
                ran = subprocess.run(
                    [*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=30
                )
                assert ran.returncode == 0, ran.stderr
            case ["pip", "install", ours, *_]:
                requirement = Requirement(ours)
                assert requirement.name == PROJECT["name"]
                assert requirement.extras <= set(PROJECT["optional-dependencies"])
            case _:
                pytest.fail(f"nobody has tried {shlex.join(command)}")


def test_no_block_is_of_a_kind_that_no_test_runs() -> None:
    # The picture is compared with the imports, by tests/architecture.
    assert {block.language for block in BLOCKS} <= {"python", "console", "text", "mermaid"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#][^)]*)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve()
        assert linked.exists(), target
        if anchor:
            assert f'<a id="{anchor}"></a>' in linked.read_text(), target


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    for page in pages()[1:]:
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "index.md" or name in index
