"""Tools to test applications and wrappers; each name is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from monkay import Monkay

if TYPE_CHECKING:
    from asgi_dbconn.lifespan.driver import LifespanDriver  # noqa: TC004
    from asgi_dbconn.testing.database import TestDatabase, drop_left_overs  # noqa: TC004

__all__ = ["LifespanDriver", "TestDatabase", "drop_left_overs"]

# pytest imports this package at every start, even if no test uses it.
_lazy: Final[Monkay[None, None]] = Monkay(
    globals(),
    lazy_imports={
        "LifespanDriver": "asgi_dbconn.lifespan.driver:LifespanDriver",
        "TestDatabase": "asgi_dbconn.testing.database:TestDatabase",
        "drop_left_overs": "asgi_dbconn.testing.database:drop_left_overs",
    },
    skip_all_update=True,
)
