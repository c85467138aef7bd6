"""SQLAlchemy's ``skip_autocommit_rollback``, one of the engine options that are passed on."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, text

from asgi_dbconn import Database


def rollbacks(connection: Connection) -> list[Any]:
    """Close ``connection``; return how the driver was asked for a rollback then."""
    pooled = connection.connection
    with patch.object(pooled, "rollback", wraps=pooled.rollback) as rollback:
        connection.close()
    return rollback.mock_calls


@pytest.mark.parametrize(
    ("skipping", "level", "count"),
    [(True, "AUTOCOMMIT", 0), (False, "AUTOCOMMIT", 1), (True, "SERIALIZABLE", 1)],
)
async def test_only_where_each_statement_is_committed_by_itself(
    database_url: str, skipping: bool, level: Any, count: int
) -> None:
    options = {"skip_autocommit_rollback": skipping}
    async with Database(database_url, pool_size=1, engine_options=options) as database:
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level=level)
            await connection.execute(text("SELECT 1"))
            await connection.rollback()
            assert len(await connection.run_sync(rollbacks)) == count
        await database.ping()
        assert database.stats().connects == 1
        assert database.stats().unclean == 0
