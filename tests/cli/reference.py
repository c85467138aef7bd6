"""The reference page of the command line, written from the commands themselves.

``python -m tests.cli.reference`` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from asgi_dbconn.cli.command import cli
from tests.architecture.layers import ROOT

PAGE = ROOT / "docs/reference/command-line.md"
INTRODUCTION = """\
# The command line

`asgi-dbconn` comes with the extra `cli`; `python -m asgi_dbconn` is the same.
How it is used: [Look at an application from the command line](../how-to/shell.md).

The exit code is 0 if all went well, 1 if something failed, and 2 if something was written wrongly.
That may be an option, a setting, or an application that cannot be found or imported.
Messages and errors go to the standard error output; what was asked for goes to the standard output.
Every command has `--help`, or `-h`.
Colours and progress are for terminals only, and `NO_COLOR` switches colours off.
"""


def page() -> str:
    """The whole page, as it should be."""
    return "\n".join([INTRODUCTION, *_sections(cli, click.Context(cli, info_name="asgi-dbconn"))])


def _sections(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield f"## `{ctx.command_path}`\n"
    for paragraph in (command.help or "").replace("\b\n", "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n"
    words = [
        param.make_metavar(ctx) for param in command.params if isinstance(param, click.Argument)
    ]
    if words:
        yield f"Takes `{' '.join(words)}`.\n"
    # Not `--help`, which is an option of every command.
    options = [param for param in command.params if isinstance(param, click.Option)]
    records = [option.get_help_record(ctx) for option in options]
    if any(records):
        yield "| option | what it does |\n|---|---|"
    for record in filter(None, records):
        name, text = (" ".join(cell.split()).replace("|", "\\|") for cell in record)
        yield f"| `{name}` | {text} |"
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is not None and not below.hidden:
                yield from _sections(below, click.Context(below, parent=ctx, info_name=name))


if __name__ == "__main__":
    PAGE.write_text(page())
