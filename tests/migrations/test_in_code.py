"""`await models.migrations.upgrade()`: in a program, whatever that is doing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from sqlalchemy import text

from asgi_dbconn import (
    ConfigurationError,
    DatabaseUnavailable,
    MigrationError,
    Registry,
    TransactionError,
)
from tests.migrations.folders import add_table, inspected, made_for, revise, tables_of

USERS = "op.create_table('users', sa.Column('id', sa.Integer, primary_key=True))"


async def test_the_registry_may_be_connected_or_not(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, USERS, "op.drop_table('users')")

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is no warning of unconnected use
        assert [str(step)[:24] for step in await migrations.upgrade()] == [
            "default: upgrade base ->"
        ]
    assert not models.is_connected
    async with models:
        assert len(await migrations.downgrade()) == 1
        assert models.is_connected
        assert models.database.stats().in_use == 0


async def test_an_isolated_database_is_not_migrated(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, USERS)

    async with models.rollback():
        with pytest.raises(TransactionError, match="isolated"):
            await migrations.upgrade()

    assert len(await migrations.upgrade()) == 1


async def test_a_database_in_memory_has_to_be_connected(tmp_path: Path) -> None:
    models = Registry("sqlite://")
    migrations = made_for(models, tmp_path)
    revise(migrations, f"{USERS}\nop.execute('PRAGMA foreign_keys=OFF')")

    with pytest.raises(DatabaseUnavailable, match="lives in memory"):
        await migrations.upgrade()
    async with models:
        assert len(await migrations.upgrade()) == 1
        async with models.connection() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM users"))).scalar() == 0
            # What the migration switched off is on again for everybody else.
            assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1


async def test_inside_a_scope_it_would_wait_for_itself(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, USERS)

    async with models:
        for scope in (models.transaction, models.connection, models.session):
            async with scope():
                with pytest.raises(TransactionError, match="outside of connection"):
                    await migrations.upgrade()


@pytest.mark.postgres
async def test_what_needs_to_run_outside_of_a_transaction_can(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url, pool_size=1)
    migrations = made_for(models, tmp_path)
    concurrently = (
        f"{USERS}\nwith op.get_context().autocommit_block():\n"
        "    op.create_index('ix', 'users', ['id'], postgresql_concurrently=True)"
    )
    revise(migrations, concurrently)
    last = revise(migrations, "op.create_table('posts', sa.Column('id', sa.Integer))")

    async with models:
        assert len(await migrations.upgrade()) == 2

    found = await inspected(models, lambda found: found.get_indexes("users"))
    assert [row["name"] for row in found] == ["ix"]
    assert await migrations.current() == {None: (last,)}


async def test_an_autocommit_block_does_no_harm_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    models = Registry(sqlite_url)
    migrations = made_for(models, tmp_path)
    index = "with op.get_context().autocommit_block():\n    op.create_index('ix', 'users', ['id'])"
    revise(migrations, f"{USERS}\n{index}\nop.execute('INSERT INTO users VALUES (1)')")

    assert len(await migrations.upgrade()) == 1
    async with models, models.connection() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM users"))).scalar() == 1


async def test_a_transaction_for_each_revision(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    first = revise(migrations, USERS)
    revise(migrations, "op.create_table('half', sa.Column('id', sa.Integer))\n1 / 0")

    with pytest.raises(MigrationError, match="The database is at base"):
        await migrations.upgrade()
    assert await tables_of(models) == set()

    migrations.configure(transaction_per_migration=True)
    with pytest.raises(MigrationError, match=f"The database is at {first}"):
        await migrations.upgrade()
    assert await tables_of(models) == {"users"}


@pytest.mark.postgres
async def test_limits_that_are_for_requests_are_not_for_migrations(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url, query_timeout=0.2, max_connections=1, pool_size=1)
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.execute('SELECT pg_sleep(0.5)')")

    async with models:
        assert len(await migrations.upgrade()) == 1


async def test_revisions_get_the_arguments_of_the_run(sqlite_url: str, tmp_path: Path) -> None:
    models = Registry(sqlite_url)
    migrations = made_for(models, tmp_path)
    table = "context.get_x_argument(as_dictionary=True)['table'] + context.get_tag_argument()"
    revise(
        migrations,
        f"from alembic import context\nop.create_table({table}, sa.Column('id', sa.Integer))",
    )

    await migrations.at(x=["table=my"], tag="_users").upgrade()

    assert await tables_of(models) == {"my_users"}


async def test_stamping_runs_nothing_and_can_forget(database_url: str, tmp_path: Path) -> None:
    models = Registry(database_url)
    migrations = made_for(models, tmp_path)
    only = revise(migrations, USERS)

    assert [step.destination for step in await migrations.stamp()] == [(only,)]
    assert await tables_of(models) == set()
    async with models, models.transaction() as transaction:
        await transaction.connection.execute(
            text("UPDATE alembic_version SET version_num = 'gone'")
        )
    with pytest.raises(MigrationError, match="Can't locate revision identified by 'gone'"):
        await migrations.current()
    await migrations.stamp("base", purge=True)
    assert await migrations.current() == {None: ()}


async def test_a_folder_that_is_not_there_is_named(sqlite_url: str, tmp_path: Path) -> None:
    migrations = Registry(sqlite_url).migrations.at(tmp_path / "nowhere")

    with pytest.raises(MigrationError, match=r"nowhere with migrations\. Create one with"):
        await migrations.upgrade()
    migrations.init()
    with pytest.raises(MigrationError, match="is not empty"):
        migrations.init()


async def test_without_alembic_it_says_what_to_install(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Registry(sqlite_url)
    add_table(models)
    monkeypatch.setattr("asgi_dbconn.migrations.alembic_errors.find_spec", lambda _: None)

    for verb in (models.migrations.upgrade, models.migrations.check, models.migrations.upgrade_sql):
        with pytest.raises(ConfigurationError, match=r"asgi-dbconn\[migrations\]"):
            await verb()
    for write in (models.migrations.init, models.migrations.revision):
        with pytest.raises(ConfigurationError, match=r"asgi-dbconn\[migrations\]"):
            write()
