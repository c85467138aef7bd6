"""``asgi-dbconn check``: whether the databases of the application answer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict

import click

from asgi_dbconn.cli.db_options import choose_databases
from asgi_dbconn.cli.discovery import Target
from asgi_dbconn.cli.ping import Answer, ask
from asgi_dbconn.cli.progress import Progress, without_warnings
from asgi_dbconn.databases.database import Database
from asgi_dbconn.health.report import DatabaseHealth, HealthReport

__all__ = ["check"]


@click.command()
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Keep trying for so long what may pass: a server that is not there yet, or starting up. "
    "[default: ask once]",
)
@click.option(
    "--database",
    "names",
    metavar="NAME",
    multiple=True,
    help="Only this one; may be repeated. The one without a name is called `default`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.pass_context
def check(ctx: click.Context, *, wait: float, names: tuple[str, ...], as_json: bool) -> None:
    """Connect to every database, all at once, and tell how it answered.

    Exits with 1 if one of them does not answer that the application cannot start without.
    """
    target: Target = ctx.obj
    with ExitStack() as stack:
        if as_json:  # whatever the application prints while it is imported
            stack.enter_context(redirect_stdout(sys.stderr))
        databases = choose_databases(target.registry, names)
        stack.enter_context(without_warnings())
        answers = asyncio.run(_ask_all(databases, wait))
    report = _report(answers)
    if as_json:
        found = [{"status": answer.status, **asdict(answer)} for answer in answers]
        click.echo(json.dumps({"status": report.status, "databases": found}, indent=2))
    else:
        _print_table(answers)
    ctx.exit(0 if report.is_healthy else 1)


async def _ask_all(databases: Mapping[str, Database], wait: float) -> list[Answer]:
    progress = Progress(databases, wait)

    async def ask_one(name: str, database: Database) -> Answer:
        # The application would not wait for one that it starts without.
        patience = 0.0 if database.options.optional else wait
        try:
            return await ask(name, database, patience, progress)
        finally:
            progress.answered(name)

    async with progress.shown():
        return await asyncio.gather(
            *(ask_one(name, database) for name, database in databases.items())
        )


def _report(answers: Sequence[Answer]) -> HealthReport:
    # The same words as those of a health endpoint.
    return HealthReport(
        {
            answer.name: DatabaseHealth(answer.status == "up", is_optional=answer.optional)
            for answer in answers
        }
    )


def _print_table(answers: Sequence[Answer]) -> None:
    name_width = max(len(answer.name) for answer in answers)
    url_width = max(len(answer.url) for answer in answers)
    for answer in answers:
        colour = "green" if answer.status == "up" else "yellow" if answer.optional else "red"
        status = click.style(f"{answer.status:4}", fg=colour)
        line = f"{status}  {answer.name:{name_width}}  {answer.url:{url_width}}"
        if answer.status == "up":
            version = f"{answer.server} {answer.version}"
            line += f"  {version}  {answer.latency_ms:.2f} ms  pool of {answer.pool_size}"
        elif answer.optional:
            line += "  optional: the application starts without it"
        click.echo(line.rstrip())
        if answer.error is not None:
            click.echo(f"      {answer.error}")
