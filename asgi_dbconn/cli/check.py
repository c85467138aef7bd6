"""``asgi-dbconn check``: connect to the databases of the application and report which answer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict

import click

from asgi_dbconn.cli.db_options import choose_databases
from asgi_dbconn.cli.discovery import AppReference
from asgi_dbconn.cli.ping import Answer, ask
from asgi_dbconn.cli.progress import Progress, silence_log
from asgi_dbconn.databases.database import Database
from asgi_dbconn.health.report import DatabaseHealth, HealthReport

__all__ = ["check"]


@click.command()
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Retry for that long after transient errors: a server that does not run yet, or is "
    "starting up. [default: try once]",
)
@click.option(
    "--database",
    "names",
    metavar="NAME",
    multiple=True,
    help="Only this database; may be repeated. The one without a name is called `default`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.pass_context
def check(ctx: click.Context, *, wait: float, names: tuple[str, ...], as_json: bool) -> None:
    """Connect to all databases, and report whether each answers.

    Exits with 1 if a database does not answer, unless it is optional.
    """
    app: AppReference = ctx.obj
    with ExitStack() as stack:
        if as_json:  # the application may print while it is imported
            stack.enter_context(redirect_stdout(sys.stderr))
        databases = choose_databases(app.registry, names)
        stack.enter_context(silence_log())
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
        # The application does not wait for an optional database either.
        patience = 0.0 if database.options.optional else wait
        try:
            return await ask(name, database, patience, progress)
        finally:
            progress.remove(name)

    async with progress.show():
        return await asyncio.gather(
            *(ask_one(name, database) for name, database in databases.items())
        )


def _report(answers: Sequence[Answer]) -> HealthReport:
    # As JSON it is the same as the report of a health endpoint.
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
