"""A schema for each tenant: the same revisions, run in each."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, text

from asgi_dbconn import ConfigurationError, InvalidSchemaName, Registry
from tests.migrations.folders import add_table, inspected, made_for, revise

pytestmark = pytest.mark.postgres


async def tables_in(models: Registry, schema: str) -> set[str]:
    return await inspected(models, lambda found: set(found.get_table_names(schema=schema)))


async def test_each_tenant_has_tables_and_a_version_of_its_own(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url)
    users = add_table(models)
    Table("posts", models.metadata, Column("user_id", ForeignKey(users.c.id)))
    migrations = made_for(models, tmp_path)
    await migrations.makemigrations("first")
    revise(migrations, "op.execute(\"INSERT INTO users VALUES (1, 'raw SQL goes there, too')\")")

    for tenant in ("tenant_a", 'Tenant "B"'):
        assert len(await migrations.upgrade(schema=tenant)) == 2
        assert await tables_in(models, tenant) == {"users", "posts", "alembic_version"}
        assert await migrations.check(schema=tenant) == {}
    assert await tables_in(models, "public") == set()
    assert await migrations.current() == {None: ()}

    await migrations.downgrade("base", schema="tenant_a")
    assert await tables_in(models, "tenant_a") == {"alembic_version"}
    async with models, models.connection() as connection:
        counted = await connection.execute(text('SELECT count(*) FROM "Tenant ""B""".users'))
        assert counted.scalar() == 1


async def test_tables_that_all_tenants_share_are_not_compared_in_each(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url)
    countries = Table("countries", models.metadata, Column("code", Integer), schema="common")
    users = add_table(models)
    migrations = made_for(models, tmp_path)

    path = await migrations.makemigrations("tenants", schema="tenant_a")
    await migrations.upgrade(schema="tenant_a")

    assert path is not None
    assert countries.name not in path.read_text()
    assert users.name in path.read_text()
    assert await migrations.check(schema="tenant_a") == {}


async def test_the_schema_of_the_registry_or_of_the_context_counts(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url, schema="main")
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.create_table('users', sa.Column('id', sa.Integer))")

    await migrations.upgrade()
    with models.with_schema("other"):
        await migrations.upgrade()
    await migrations.upgrade(schema=None)

    for schema in ("main", "other", "public"):
        assert await tables_in(models, schema) == {"users", "alembic_version"}


async def test_looking_at_a_schema_does_not_create_it(postgres_url: str, tmp_path: Path) -> None:
    models = Registry(postgres_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "pass")

    assert await migrations.current(schema="nobody") == {None: ()}
    assert "nobody" not in await inspected(models, lambda found: found.get_schema_names())


async def test_sql_for_a_schema_goes_there(postgres_url: str, tmp_path: Path) -> None:
    models = Registry(postgres_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "op.create_table('users', sa.Column('id', sa.Integer))")

    sql = await migrations.upgrade_sql(schema="tenant")

    async with models, models.connection() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("CREATE SCHEMA tenant")
        await driver.execute(sql)
        await driver.execute("RESET search_path")
    assert await tables_in(models, "tenant") == {"users", "alembic_version"}


async def test_what_cannot_be_a_schema_is_refused(
    postgres_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url)
    migrations = made_for(models, tmp_path)
    revise(migrations, "pass")
    elsewhere = tmp_path / "migrations"

    with pytest.raises(InvalidSchemaName):
        await migrations.upgrade(schema="pg_mine")
    with pytest.raises(InvalidSchemaName, match="SQLite"):
        await Registry(sqlite_url).migrations.at(elsewhere).upgrade(schema="tenant")
    with pytest.raises(ConfigurationError, match="PgBouncer"):
        bouncer = Registry(postgres_url, pgbouncer=True)
        await bouncer.migrations.at(elsewhere).upgrade(schema="tenant")


async def test_behind_pgbouncer_the_lock_is_the_transactions(
    postgres_url: str, tmp_path: Path
) -> None:
    models = Registry(postgres_url, pgbouncer=True)
    migrations = made_for(models, tmp_path)
    locks = "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    held = "assert op.get_bind().execute(sa.text({!r})).all() == [(0x6D696772,)]"
    revise(migrations, held.format(locks))
    Table("users", models.metadata, Column("id", Integer, primary_key=True))

    assert len(await migrations.upgrade()) == 1
    assert await migrations.upgrade() == []
