"""The function that the ``env.py`` of a folder calls, for the ``alembic`` command."""

from __future__ import annotations

import logging
import sys
from typing import Any

from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.migrations.migrations import Migrations

__all__ = ["run"]


def run(context: Any, migrations: Migrations) -> None:
    """Do what ``alembic`` was asked for, on all databases: ``run(context, models.migrations)``.

    ``context`` is the module ``alembic.context``.
    """
    options = _requested(context)
    is_online = not context.is_offline_mode()
    writes = "destination_rev" in options
    sql = run_sync(migrations.run_for(context, options["fn"], writes=writes, is_online=is_online))
    (context.config.output_buffer or sys.stdout).write(sql)


def _requested(context: Any) -> dict[str, Any]:
    # The context tells once it was configured, for whatever database, and logs which.
    logger = logging.getLogger("alembic.runtime.migration")
    logger.disabled, was_disabled = True, logger.disabled
    try:
        context.configure(dialect_name="sqlite")
    finally:
        logger.disabled = was_disabled
    options: dict[str, Any] = context.get_context().opts
    return options
