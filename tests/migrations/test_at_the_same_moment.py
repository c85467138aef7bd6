"""Two containers start at once: one migrates, the other waits, and finds nothing to do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from asgi_dbconn import Database, MigrationLocked, Registry, run_sync
from asgi_dbconn.migrations.locking import lock_database
from tests.cli.project import Project
from tests.cli.terminal import environment
from tests.migrations.conftest import SHOP
from tests.migrations.folders import add_table, made_for, revise, tables_of
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until_async


@pytest.mark.server
def test_two_processes_migrate_once(tmp_path: Path, database_url: str) -> None:
    project = Project(tmp_path)
    project.write("main.py", SHOP)
    for args in (("init",), ("makemigrations", "-m", "users")):
        assert project.run("db", *args, SHOP_DATABASE=database_url).returncode == 0
    path = next((project.folder / "migrations/versions").glob("*_users.py"))
    # The one that comes first is still at it when the other one looks.
    path.write_text(
        path.read_text()
        .replace("import sqlalchemy", "import time\n\nimport sqlalchemy", 1)
        .replace("def upgrade() -> None:", "def upgrade() -> None:\n    time.sleep(2)", 1)
    )

    both = [
        subprocess.Popen(
            [sys.executable, "-m", "asgi_dbconn", "db", "upgrade"],
            cwd=project.folder,
            env=environment(project.home, SHOP_DATABASE=database_url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = sorted(row.communicate(timeout=50)[0] for row in both)

    assert [row.returncode for row in both] == [0, 0], said
    assert said[0] == "Nothing to do.\n"
    assert said[1].startswith("default: upgrade base -> ")
    assert said[1].count("\n") == 1


async def test_tasks_of_one_loop_take_turns(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.create_table('users', sa.Column('id', sa.Integer))")
    async with models:
        applied = await asyncio.gather(*(migrations.upgrade() for _ in range(5)))

    assert sorted(map(len, applied)) == [0, 0, 0, 0, 1]


async def test_threads_with_loops_of_their_own_take_turns(
    database_url: str, tmp_path: Path
) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.create_table('users', sa.Column('id', sa.Integer))")

    applied = await asyncio.gather(
        *(asyncio.to_thread(asyncio.run, migrations.upgrade()) for _ in range(4))
    )

    assert sorted(map(len, applied)) == [0, 0, 0, 1]


@pytest.mark.postgres
async def test_who_has_waited_long_enough_is_told_for_whom(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.create_table('users', sa.Column('id', sa.Integer))")
    other = await asyncpg.connect(postgres_url, server_settings={"application_name": "a deploy"})
    await other.execute("SELECT pg_advisory_lock(x'61736769'::int, x'6D696772'::int)")

    with pytest.raises(
        MigrationLocked, match=r"within 0\.3 s \(lock_timeout\): process .* a deploy, from "
    ) as caught:
        await migrations.upgrade(lock_timeout=0.3)
    assert f"pg_terminate_backend({other.get_server_pid()})" in str(caught.value)
    assert await migrations.current() == {None: ()}

    await other.close()
    assert len(await migrations.upgrade(lock_timeout=0.3)) == 1


async def test_a_lock_on_the_file_is_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    models = Registry(sqlite_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.create_table('users', sa.Column('id', sa.Integer))")
    async with models:
        async with models.connection() as connection:
            await connection.execution_options(asgi_dbconn_writes=True)
            await connection.execute(text("CREATE TABLE x (id INTEGER)"))
            elsewhere = Registry(sqlite_url).migrations.at(tmp_path / "migrations")
            with pytest.raises(MigrationLocked, match="another connection writes to it"):
                await elsewhere.upgrade(lock_timeout=0.2)
            waiting = asyncio.create_task(elsewhere.upgrade())
            await asyncio.sleep(0)
        assert len(await waiting) == 1


@pytest.mark.postgres
async def test_a_run_that_is_cancelled_leaves_no_lock_behind(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    migrations = made_for(Registry(postgres_url), tmp_path)
    revise(migrations, "op.execute('SELECT pg_sleep(30)')")
    upgrading = asyncio.create_task(migrations.upgrade())
    await wait_until_async(
        lambda: any("pg_sleep" in session.query for session in postgres.sessions()), 9
    )

    upgrading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upgrading

    await wait_until_async(lambda: not postgres.sessions(), 9)
    stamped = await migrations.stamp(lock_timeout=0.1)
    assert len(stamped) == 1


@pytest.mark.postgres
async def test_an_index_can_be_built_while_somebody_waits(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    migrations = made_for(Registry(postgres_url), tmp_path)
    revise(
        migrations,
        "op.create_table('users', sa.Column('id', sa.Integer))\n"
        "op.execute('SELECT pg_sleep(0.5)')\n"
        "with op.get_context().autocommit_block():\n"
        "    op.create_index('ix', 'users', ['id'], postgresql_concurrently=True)",
    )
    upgrading = asyncio.create_task(migrations.upgrade())
    await wait_until_async(
        lambda: any("pg_sleep" in session.query for session in postgres.sessions()), 9
    )

    async with Database(postgres_url) as database, database.connection() as connection:
        await lock_database(connection, database, 20)
        assert upgrading.done()
        assert len(await upgrading) == 1


def test_synchronous_code_may_migrate(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    add_table(models)

    run_sync(migrations.makemigrations("first"))
    assert len(run_sync(migrations.upgrade())) == 1
    with models.with_async_env():
        assert run_sync(migrations.upgrade()) == []
    assert run_sync(tables_of(models)) == {"users"}
