"""The command itself: its help, what it imports, extras that are missing, completion."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from asgi_dbconn.cli.command import COMMANDS, cli
from tests.architecture.layers import ROOT
from tests.cli.project import Project
from tests.cli.terminal import environment

pytestmark = pytest.mark.server

# Runs the command without the modules that are named first, as if they were not installed.
WITHOUT = """
import sys
missing, sys.argv[1:] = sys.argv[1].split(), sys.argv[2:]
sys.modules.update(dict.fromkeys(missing))
from asgi_dbconn.cli.entry import main
main()
"""
SEEN = """
import json, sys
from asgi_dbconn.cli.entry import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def test_help_lists_the_commands(project: Project) -> None:
    for ran in (project.run("--help"), project.run("-h")):
        assert ran.returncode == 0
        assert ran.stdout.startswith("Usage: asgi-dbconn [OPTIONS] COMMAND")
        for name, later in COMMANDS.items():
            assert f"  {name}" in ran.stdout
            assert later.help in ran.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_it_says_of_itself(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    first = (command.help or "").split("\n\n")[0]
    assert " ".join(first.split()) == COMMANDS[name].help


def test_the_script_that_is_installed_and_the_module_are_the_same(project: Project) -> None:
    script = Path(sys.executable).with_name("asgi-dbconn")
    ran = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == project.run("--version").stdout
    assert ran.stdout == f"asgi-dbconn {version('asgi-dbconn')}\n"


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_imports_neither_what_the_commands_need_nor_what_they_are(args: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SEEN, *args], capture_output=True, text=True, check=True
    )
    loaded = json.loads(ran.stderr)
    heavy = {"alembic", "IPython", "uvicorn", "sqlalchemy", "starlette", "pydantic", "asyncpg"}
    assert [name for name in loaded if name.partition(".")[0] in heavy] == []
    assert [name for name in loaded if name.startswith("asgi_dbconn")] == [
        "asgi_dbconn",
        "asgi_dbconn.cli",
        "asgi_dbconn.cli.command",
        "asgi_dbconn.cli.entry",
        "asgi_dbconn.cli.errors",
        "asgi_dbconn.cli.lazy_group",
        "asgi_dbconn.errors",
    ]


@pytest.mark.parametrize(
    ("missing", "args", "told"),
    [
        ("click", ["--help"], 'asgi-dbconn needs click: pip install "asgi-dbconn[cli]"'),
        ("uvicorn", ["demo"], 'pip install "asgi-dbconn[cli]"'),
        ("alembic", ["db", "upgrade"], 'pip install "asgi-dbconn[migrations]"'),
    ],
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    missing: str, args: list[str], told: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *args], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert told in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_without_ipython_the_shell_is_pythons_own(shop: Project) -> None:
    shop.write("sitecustomize.py", "import sys; sys.modules['IPython'] = None")
    with shop.terminal("shell", PYTHONPATH=str(shop.folder)) as terminal:
        terminal.wait_for("^>>> $")
        assert terminal.leave() == 0


def test_a_command_that_there_is_not_is_a_usage_error(project: Project) -> None:
    ran = project.run("chekc")
    assert ran.returncode == 2
    assert "No such command 'chekc'" in ran.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="completes in a real bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("asgi-dbconn ", "check demo shell db"),
        ("asgi-dbconn sh", "shell"),
        ("asgi-dbconn check --w", "--wait"),
        ("asgi-dbconn --app main:app check --j", "--json"),
        ("asgi-dbconn --vers", "--version"),
    ],
)
def test_bash_completes_what_the_documentation_switches_on(
    project: Project, words: str, expected: str
) -> None:
    script = f"""
        PATH={Path(sys.executable).parent}:$PATH
        {switching_completion_on("bash")}
        COMP_WORDS=({words.rstrip()}{" ''" if words.endswith(" ") else ""})
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _asgi_dbconn_completion asgi-dbconn
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=project.folder,
        env=environment(project.home),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.stderr == ""
    assert sorted(ran.stdout.split()) == sorted(expected.split())


def switching_completion_on(shell: str) -> str:
    """The line for ``shell`` in the documentation."""
    page = (ROOT / "docs/how-to/shell.md").read_text()
    (line,) = (line for line in page.splitlines() if f"{shell}_source" in line)
    return line
