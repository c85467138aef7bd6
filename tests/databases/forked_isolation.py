"""A program that forks while its database is isolated; run by a test, it prints what it saw."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings

from sqlalchemy import text

from asgi_dbconn import Database
from tests.faults.forking import in_child


async def count(database: Database) -> int:
    """How many notes can be seen; adds one."""
    async with database.transaction() as transaction:
        await transaction.connection.execute(text("INSERT INTO notes VALUES (1)"))
        counted = await transaction.connection.execute(text("SELECT count(*) FROM notes"))
        return int(counted.scalar_one())


async def create(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.connection.execute(text("CREATE TABLE notes (id integer)"))


def main(url: str) -> None:
    # Python warns of forks in multi-threaded programs since 3.12; that is what is tested here.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # Not in `with` blocks: the child would leave them, too.
    database, runner = Database(url), asyncio.Runner()
    runner.run(database.connect())
    runner.run(create(database))
    isolation = database.force_rollback()
    runner.run(isolation.__aenter__())
    saw = {"before": runner.run(count(database))}
    saw["child"] = in_child(lambda: asyncio.run(count(database)))
    saw["isolated"] = runner.run(count(database))
    runner.run(isolation.__aexit__(None, None, None))
    saw["after"] = runner.run(count(database))
    runner.run(database.disconnect())
    runner.close()
    print(json.dumps(saw))


if __name__ == "__main__":
    main(*sys.argv[1:])
