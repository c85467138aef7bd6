"""Names for the fixtures, imported on first use so that pytest starts fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from monkay import Monkay

if TYPE_CHECKING:
    from asgi_dbconn.instance import monkay as monkay
    from asgi_dbconn.loops.run_sync import run_sync as run_sync
    from asgi_dbconn.registry.registry import Registry as Registry
    from asgi_dbconn.testing.app_under_test import run_app as run_app
    from asgi_dbconn.testing.app_under_test import run_isolated as run_isolated
    from asgi_dbconn.testing.database import TestDatabase as TestDatabase
    from asgi_dbconn.testing.env_variables import DatabaseVariables as DatabaseVariables

__all__ = ()  # nothing is defined here

_lazy: Final[Monkay[None, None]] = Monkay(
    globals(),
    lazy_imports={
        "DatabaseVariables": "asgi_dbconn.testing.env_variables:DatabaseVariables",
        "Registry": "asgi_dbconn.registry.registry:Registry",
        "TestDatabase": "asgi_dbconn.testing.database:TestDatabase",
        "run_isolated": "asgi_dbconn.testing.app_under_test:run_isolated",
        "monkay": "asgi_dbconn.instance:monkay",
        "run_sync": "asgi_dbconn.loops.run_sync:run_sync",
        "run_app": "asgi_dbconn.testing.app_under_test:run_app",
    },
    skip_all_update=True,
)
