"""What the pages say of the command is so: the reference, and every line that one could type."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner

from asgi_dbconn.cli.command import cli
from tests.cli.reference import PAGE, page
from tests.docs.blocks import ROOT, blocks

LINES = sorted(
    {
        (str(block.path.relative_to(ROOT)), line.lstrip("$ "))
        for block in blocks()
        for line in block.code.splitlines()
        if re.match(r"\$ asgi-dbconn ", line)
    }
)


def test_the_reference_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == page(), "python -m tests.cli.reference writes it anew"


@pytest.mark.parametrize(("path", "line"), LINES)
def test_a_line_of_the_documentation_can_be_typed(path: str, line: str) -> None:
    words = shlex.split(re.split(r"&&|\|", line)[0], comments=True)
    # An option that does not exist is an error before the help is shown.
    ran = CliRunner().invoke(cli, [*words[1:], "--help"])
    assert ran.exit_code == 0, ran.output


def test_there_are_such_lines() -> None:
    assert len(LINES) > 5
