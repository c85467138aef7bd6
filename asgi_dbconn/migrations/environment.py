"""The entry point for the ``env.py`` of a folder, which the ``alembic`` command runs."""

from __future__ import annotations

import logging
import sys
from typing import Any

from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.migrations.migrations import Migrations

__all__ = ["run"]


def run(context: Any, migrations: Migrations) -> None:
    """Run the ``alembic`` command on all databases: ``run(context, models.migrations)``.

    ``context`` is the module ``alembic.context``.
    """
    options = _read_options(context)
    is_online = not context.is_offline_mode()
    writes = "destination_rev" in options
    sql = run_sync(migrations.run_for(context, options["fn"], writes=writes, is_online=is_online))
    (context.config.output_buffer or sys.stdout).write(sql)


def _read_options(context: Any) -> dict[str, Any]:
    # The context has its options after it was configured for any database, and logs which one.
    logger = logging.getLogger("alembic.runtime.migration")
    logger.disabled, was_disabled = True, logger.disabled
    try:
        context.configure(dialect_name="sqlite")
    finally:
        logger.disabled = was_disabled
    options: dict[str, Any] = context.get_context().opts
    return options
