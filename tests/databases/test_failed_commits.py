"""A commit that fails leaves its connection in order for whoever gets it next."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError, InvalidRequestError

from asgi_dbconn import TransactionAborted
from tests.databases.connected import connected, names
from tests.models import Cast

TABLES = (
    "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
    "CREATE TABLE children (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
)


async def _prepare(cast: Cast) -> None:
    async with cast.models.transaction() as transaction:
        for table in TABLES:
            await transaction.connection.exec_driver_sql(table)


@pytest.mark.parametrize("block", ["transaction", "session", "connection"])
async def test_a_constraint_that_fails_at_the_commit(database_url: str, block: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        await _prepare(cast)
        with pytest.raises(IntegrityError):
            async with getattr(cast.models, block)(), cast.models.connection() as connection:
                await connection.exec_driver_sql("INSERT INTO children VALUES (1)")

        # SQLite keeps the transaction open then; it must not come back to the pool like that.
        async with cast.models.transaction():
            await cast.User.query.create(name="ada")
        assert await names(cast) == ["ada"]


async def test_a_constraint_that_fails_at_the_commit_of_a_single_verb(database_url: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        await _prepare(cast)
        with pytest.raises(IntegrityError):
            await cast.models.database.run(
                lambda connection: connection.exec_driver_sql("INSERT INTO children VALUES (1)"),
                autocommit=False,
            )

        await cast.User.query.create(name="ada")
        assert await names(cast) == ["ada"]


@pytest.mark.parametrize("block", ["session", "connection"])
async def test_a_commit_by_hand_that_is_refused(database_url: str, block: str) -> None:
    async with connected(database_url, pool_size=1) as cast:
        await cast.User.query.create(name="ada")
        # SQLAlchemy's own session notices by itself that its transaction is over.
        with pytest.raises((TransactionAborted, InvalidRequestError)):
            async with getattr(cast.models, block)() as scope:
                with pytest.raises(IntegrityError):
                    await cast.User.query.create(name="ada")
                await scope.commit()

        await cast.User.query.create(name="bob")
        assert await names(cast) == ["ada", "bob"]
