"""A plugin of pytest that switches the fast path off, by the package's own check.

``pytest -p tests.orm.without_fast_path`` is a run with a release of SQLAlchemy that has dropped a
name which the fast path needs.
"""

from __future__ import annotations

from asgi_dbconn.orm.sqlalchemy_internals import HYDRATION

DROPPED = "_dropped_by_a_later_release"


def drop_a_name() -> None:
    """Call it before the fast path is imported."""
    HYDRATION["orm.Mapper"].add(DROPPED)


def pytest_configure() -> None:
    drop_a_name()
