"""A group of commands that imports each of them only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from asgi_dbconn.cli.errors import report_errors

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["LazyCommand", "LazyGroup", "import_object"]


class LazyCommand(NamedTuple):
    """A command that is not imported yet."""

    where: str
    """The place of the command, as ``module:attribute``."""
    help: str
    needs: str = "click"
    """The package without which it cannot be imported, and the extra of ours that brings it."""
    extra: str = "cli"


class LazyGroup(click.Group):
    """A group that lists its commands without importing any, with the extras that they need."""

    def __init__(self, *args: Any, later: Mapping[str, LazyCommand], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._later = later

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._later)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        later = self._later.get(cmd_name)
        if later is None:
            return None
        if find_spec(later.needs) is None:
            if ctx.resilient_parsing:  # shell completion of a command that cannot run: no result
                return None
            raise click.UsageError(
                f'`{cmd_name}` needs {later.needs}: pip install "asgi-dbconn[{later.extra}]"'
            )
        command: click.Command = import_object(later.where)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, later.help) for name, later in self._later.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=later.help)
            for name, later in self._later.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        with report_errors():
            return super().invoke(ctx)


def import_object(where: str) -> Any:
    """Return the attribute of a module of this package, named as ``module:attribute``."""
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)
